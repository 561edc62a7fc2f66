/** A caller's membership in an organization. */
export interface Membership {
  readonly organizationId: Buffer;
  /** Role names in this organization, besides the implied `organization-member`. */
  readonly roles: readonly string[];
}

/** A verified user, with what the permission rules need to know. Ids are the 16 bytes of a UUID. */
export interface Caller {
  readonly userId: Buffer;
  readonly username: string;
  /** Site roles, besides the implied `member`. */
  readonly roles: readonly string[];
  readonly memberships: readonly Membership[];
}
