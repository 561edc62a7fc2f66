/** Files of tests that `TEST_DISTRIBUTED=true` leaves out, each with the reason. Single tests are skipped where they stand. */
export const leftOutWhenDistributed: Readonly<Record<string, string>> = {
  'test/db/triggers.test.ts': 'it tests the triggers themselves',
  'test/db/grants.test.ts':
    'it tests the rights of accounts, that to make triggers among them, which each engine gives in its own way',
  'test/db/generate.test.ts': 'what makes data for benchmarks counts on the AUTO_INCREMENT of one server; it is not in the image',
  'test/db/hostile-server.test.ts': 'it starts servers of its own, with triggers',
};
