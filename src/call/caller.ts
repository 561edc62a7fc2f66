/** One permission of a role: a resource and an action on it, each a word or `*`; `negate` takes it away (coderd/rbac/role.go). */
export interface Permission {
  readonly negate: boolean;
  readonly resource: string;
  readonly action: string;
}

/** What a role permits: on the whole site, in its organization, and on what the caller owns. */
export interface RolePermissions {
  readonly site: readonly Permission[];
  readonly organization: readonly Permission[];
  readonly user: readonly Permission[];
}

/** A caller's membership in an organization. */
export interface Membership {
  readonly organizationId: Buffer;
  /** Role names in this organization, besides the implied `organization-member`. */
  readonly roles: readonly string[];
  /** What those of the roles permit that are not built in. */
  readonly customRoles: readonly RolePermissions[];
}

/** A verified user, with what the permission rules need to know. Ids are the 16 bytes of a UUID. */
export interface Caller {
  readonly userId: Buffer;
  readonly username: string;
  /** Site roles, besides the implied `member`. */
  readonly roles: readonly string[];
  /** What those of the site roles permit that are not built in. */
  readonly customRoles: readonly RolePermissions[];
  readonly memberships: readonly Membership[];
  /** Groups the caller is in, besides each organization's group Everyone. */
  readonly groupIds: readonly Buffer[];
  /** Whether the caller's token is good for reading tasks at all. */
  readonly mayRead: boolean;
  /** The tasks that the token is good for, where it is not good for all. */
  readonly onlyIds?: readonly Buffer[];
}
