/** The database cannot be migrated, for a reason that an operator can act on; the message is printed without a stack. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}
