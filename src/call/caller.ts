/** One permission of a role: a resource and an action on it, each a word or `*`; `negate` takes it away (coderd/rbac/role.go). */
export interface Permission {
  readonly negate: boolean;
  readonly resource: string;
  readonly action: string;
}

/**
 * What a role permits: on the whole site, in its organization, on what the caller owns, and on what the caller owns in its
 * organization. Newer versions of Coder have the last in place of the one before it.
 */
export interface RolePermissions {
  readonly site: readonly Permission[];
  readonly organization: readonly Permission[];
  readonly user: readonly Permission[];
  readonly member: readonly Permission[];
}

/** A caller's membership in an organization. */
export interface OrganizationMembership {
  readonly organizationId: Buffer;
  /** Role names in this organization, the caller's and those of all its members, besides the implied `organization-member`. */
  readonly roles: readonly string[];
  /** The permissions of those roles that are custom. */
  readonly customRoles: readonly RolePermissions[];
  /** Set where the implied role is among `customRoles`, and not built in. */
  readonly impliedIsCustom?: true;
}

/** An authenticated user, with everything that decides what the user may read. Ids are the 16 bytes of a UUID. */
export interface Caller {
  readonly userId: Buffer;
  readonly username: string;
  /** Site roles, besides the implied `member`. */
  readonly roles: readonly string[];
  /** The permissions of those site roles that are custom. */
  readonly customRoles: readonly RolePermissions[];
  readonly memberships: readonly OrganizationMembership[];
  /** Groups of the caller, besides each organization's group Everyone. */
  readonly groupIds: readonly Buffer[];
  /** Set where tasks have rights of their own: reading one needs the right to read tasks, and that to read workspaces. */
  readonly tasksHaveRights?: true;
  /** Set where what is shared with the caller is not to be read, whatever ACLs say. */
  readonly withoutSharing?: true;
  /** Whether the scope of the caller's token allows reading tasks at all. */
  readonly mayRead: boolean;
  /** The tasks that the token may read, where it is restricted to some. */
  readonly onlyIds?: readonly Buffer[];
  /** The workspaces whose tasks the token may read, where it is restricted to some and tasks have ids of their own. */
  readonly onlyWorkspaces?: readonly Buffer[];
}
