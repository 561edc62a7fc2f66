import { parseSync } from 'vite';

/** A node of the syntax tree, of which only its type is known. */
interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

/** Methods whose first argument is SQL: of Knex, of its builders, and of mysql2. */
const takesSql = /^(raw|\w+Raw|query|execute)$/;

/** A text that is or could be a part of a statement: it names a table or a column as ours are named, or has a clause. */
const looksLikeSql =
  /`\w+`|\b(select|insert (ignore )?into|update .* set|delete from|from \w+ as|order by|group by|where .* =|create table)\b/;

/** Methods that give constants when all they are given are constants. */
const pureMethods = new Set(['map', 'join', 'flatMap', 'filter', 'slice', 'repeat', 'keys', 'entries', 'concat', 'replaceAll']);

/**
 * What a TypeScript file puts into the texts of its SQL that is not constant within the file: the source of each such expression.
 *
 * Constant are literals, names that are only ever given constants, and what is made of or chosen among constants. Nothing is
 * looked up in other files: what comes from there is not constant.
 */
export function inputsOfSql(code: string): string[] {
  const { program, errors } = parseSync('source.ts', code);
  if (errors.length > 0) throw new Error(errors[0]?.message);
  const tree = program as unknown as Node;
  const { constants, statements } = readNames(tree);
  const found: string[] = [];
  const report = (node: Node): void => void found.push(code.slice(node.start, node.end).replaceAll(/\s+/g, ' '));
  const isConstant = (node: Node): boolean => constant(node, constants);

  /** Reports the parts of a text that are not constant. */
  const check = (node: Node): void => {
    if (isConstant(node)) return;
    if (node.type === 'TemplateLiteral') for (const part of node['expressions'] as Node[]) check(part);
    else if (node.type === 'BinaryExpression') for (const side of ['left', 'right']) check(node[side] as Node);
    else if (isSqlCall(node)) visit(node);
    else report(node);
  };

  const visit = (node: Node): void => {
    if (isSqlCall(node)) {
      const [sql, ...others] = node['arguments'] as Node[];
      visit(node['callee'] as Node);
      if (sql !== undefined) check(sql);
      for (const other of others) visit(other);
      return;
    }
    const text = statements(node);
    if (text !== undefined && looksLikeSql.test(text)) check(node);
    else for (const child of childrenOf(node)) visit(child);
  };
  visit(tree);
  return found;
}

function isSqlCall(node: Node): boolean {
  return node.type === 'CallExpression' && takesSql.test(nameOf(node['callee'] as Node));
}

function childrenOf(node: Node): Node[] {
  return Object.entries(node).flatMap(([key, value]) =>
    key === 'type' ? [] : (Array.isArray(value) ? value : [value]).filter((child) => typeof Object(child).type === 'string'),
  ) as Node[];
}

function nameOf(node: Node): string {
  const property = node.type === 'MemberExpression' ? (node['property'] as Node) : node;
  return property.type === 'Identifier' ? (property['name'] as string) : '';
}

/** The names that are constant, and what gives the text of a template or a sum with something in it. */
function readNames(tree: Node): { constants: Set<string>; statements: (node: Node) => string | undefined } {
  const given = new Map<string, Node[]>();
  const varying = new Set<string>();
  const visit = (node: Node, inPureCall: boolean): void => {
    if (node.type === 'VariableDeclaration') {
      for (const { id, init } of node['declarations'] as { id: Node; init: Node | null }[]) {
        const name = nameOf(id);
        if (node['kind'] === 'const' && name !== '' && init !== null) given.set(name, [...(given.get(name) ?? []), init]);
        else for (const inner of namesIn(id)) varying.add(inner);
      }
    }
    if (/^(Arrow)?Function(Declaration|Expression)$/.test(node.type)) {
      // What is called over a constant's parts is given constants; see `constant`.
      if (!inPureCall) for (const param of node['params'] as Node[]) for (const inner of namesIn(param)) varying.add(inner);
    }
    const pure = node.type === 'CallExpression' && pureMethods.has(nameOf(node['callee'] as Node));
    for (const child of childrenOf(node)) visit(child, pure);
  };
  visit(tree, false);

  const constants = new Set<string>();
  for (let before = -1; before < constants.size; ) {
    before = constants.size;
    for (const [name, values] of given) {
      if (!varying.has(name) && values.every((value) => constant(value, constants))) constants.add(name);
    }
  }
  return {
    constants,
    statements(node) {
      if (node.type === 'TemplateLiteral')
        return (node['quasis'] as { value: { cooked: string } }[]).map(({ value }) => value.cooked).join(' ');
      if (node.type === 'BinaryExpression' && node['operator'] === '+') return literalsIn(node);
      return undefined;
    },
  };
}

function namesIn(pattern: Node): string[] {
  if (pattern.type === 'Identifier') return [pattern['name'] as string];
  return childrenOf(pattern).flatMap(namesIn);
}

function literalsIn(node: Node): string {
  if (node.type === 'Literal') return String(node['value']);
  return node.type === 'BinaryExpression' ? `${literalsIn(node['left'] as Node)} ${literalsIn(node['right'] as Node)}` : ' ';
}

/** Whether an expression is made of constants alone. */
function constant(node: Node, names: ReadonlySet<string>): boolean {
  const all = (nodes: unknown): boolean => (nodes as Node[]).every((one) => constant(one, names));
  switch (node.type) {
    case 'Literal':
      return true;
    case 'Identifier':
      return names.has(node['name'] as string);
    case 'TemplateLiteral':
      return all(node['expressions']);
    case 'TSAsExpression':
    case 'TSSatisfiesExpression':
    case 'TSNonNullExpression':
      return constant(node['expression'] as Node, names);
    case 'ArrayExpression':
      return all(node['elements']);
    case 'SpreadElement':
      return constant(node['argument'] as Node, names);
    case 'ObjectExpression':
      return (node['properties'] as Node[]).every((one) => constant((one['value'] ?? one['argument']) as Node, names));
    case 'BinaryExpression':
      return all([node['left'], node['right']]);
    case 'ConditionalExpression':
      return all([node['consequent'], node['alternate']]); // whatever chooses
    case 'MemberExpression':
      return constant(node['object'] as Node, names); // whichever is chosen
    case 'CallExpression': {
      const callee = node['callee'] as Node;
      if (callee.type !== 'MemberExpression' || !pureMethods.has(nameOf(callee)) || !constant(callee['object'] as Node, names))
        return false;
      return (node['arguments'] as Node[]).every((one) => {
        if (one.type !== 'ArrowFunctionExpression') return constant(one, names);
        const inside = new Set([...names, ...(one['params'] as Node[]).flatMap(namesIn)]);
        return constant(one['body'] as Node, inside);
      });
    }
    default:
      return false;
  }
}
