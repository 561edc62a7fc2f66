import type { Command, Option } from 'commander';

/**
 * What may stand in place of the last word of a command line: commands, options, and the values of options and arguments. Each has a
 * line with a tab before its description, if it has one.
 *
 * @param words those behind the name of the program; the last one is being written, and may be empty.
 * @param otherValues values of options that take others as well, by the option.
 */
export function completionsOf(
  program: Command,
  words: readonly string[],
  otherValues: ReadonlyMap<string, readonly string[]> = new Map(),
): string[] {
  const current = words.at(-1) ?? '';
  let command = program;
  let place = 0;
  let option: Option | undefined;
  for (const word of words.slice(0, -1)) {
    if (option !== undefined) option = undefined;
    else if (word.startsWith('-')) option = word.includes('=') ? undefined : optionWithValue(command, word);
    else {
      const inner = place === 0 ? command.commands.find((each) => each.name() === word) : undefined;
      place += inner === undefined ? 1 : 0;
      command = inner ?? command;
    }
  }
  const valuesOf = (of: Option | undefined) => of?.argChoices ?? otherValues.get(of?.long ?? '') ?? [];

  const [name = '', value] = current.startsWith('--') ? current.split('=', 2) : [];
  let lines: readonly string[];
  if (option !== undefined) lines = valuesOf(option);
  else if (value !== undefined) lines = valuesOf(optionWithValue(command, name)).map((each) => `${name}=${each}`);
  else if (current.startsWith('-'))
    lines = visibleOptions(command).map(({ long, short, description }) => `${long ?? short ?? ''}\t${description}`);
  else {
    const commands = place === 0 ? command.createHelp().visibleCommands(command) : [];
    lines = [
      ...commands.map((each) => `${each.name()}\t${each.description()}`),
      ...(command.registeredArguments[place]?.argChoices ?? []),
    ];
  }
  return lines.filter((line) => line.startsWith(current));
}

function optionWithValue(command: Command, flag: string): Option | undefined {
  return command.options.find(
    (option) => (option.long === flag || option.short === flag) && (option.required || option.optional),
  );
}

function visibleOptions(command: Command): Option[] {
  return command.createHelp().visibleOptions(command);
}
