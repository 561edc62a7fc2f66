import { runProgram } from '../src/program.ts';
import { development } from './development.ts';

await runProgram(development);
