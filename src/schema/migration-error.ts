/** Why the database cannot be migrated, in words that whoever runs the migration can act on. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}
