/** The shells that can complete. */
export const shells = ['bash', 'zsh', 'fish'] as const;

/** One of {@link shells}. */
export type Shell = (typeof shells)[number];

/** The script with which a shell asks the program for completions (`completions.ts`). */
export function completionScript(shell: Shell, program: string): string {
  return scripts[shell](program).trim();
}

const scripts: Readonly<Record<Shell, (program: string) => string>> = {
  bash: (program) => `
# In ~/.bashrc: eval "$(${program} completion bash)"
_${functionName(program)}() {
  local word words=() last
  # Bash parts words at "=", and leaves backslashes in them.
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD}"; do
    last=$((\${#words[@]} - 1))
    if ((last >= 0)) && [[ $word == = || \${words[last]} == --*= ]]; then
      words[last]+=$word
    else
      words+=("\${word//\\\\/}")
    fi
  done
  last=$((\${#words[@]} - 1))
  COMPREPLY=()
  while IFS=$'\\t' read -r word _; do
    [[ \${words[last]} == --*=* ]] && word=\${word#*=}
    COMPREPLY+=("$(printf %q "$word")")
  done < <(${program} complete -- "\${words[@]}" 2>/dev/null)
}
complete -F _${functionName(program)} ${program}`,

  zsh: (program) => `
# In ~/.zshrc, behind compinit: eval "$(${program} completion zsh)"
_${functionName(program)}() {
  local line
  local -a values
  for line in "\${(@f)$(${program} complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    # Names and descriptions have a tab between them here, and a colon there.
    [[ -n $line ]] && values+=("\${\${line//:/\\\\:}/$'\\t'/:}")
  done
  _describe -- '${program}' values
}
compdef _${functionName(program)} ${program}`,

  fish: (program) => `
# In ~/.config/fish/completions/${program}.fish: ${program} completion fish | source
function __${functionName(program)}
  set -l words (commandline -opc) (commandline -ct)
  set -e words[1]
  ${program} complete -- $words 2>/dev/null
end
complete -c ${program} -f -a '(__${functionName(program)})'`,
};

function functionName(program: string): string {
  return program.replaceAll(/\W/g, '_');
}
