import { hasId } from '../../db/uuid.ts';
import type { Scope } from '../scope.ts';
import { type BoundFilter, type BoundScope, type BoundSharing, bindFilter, bindScope, bindSharing } from './conditions.ts';
import { type ListOrder, listOrders } from './list-order.ts';
import type { Bindings, Slot } from './statement-template.ts';
import { aclKinds, canWait, namedOnlyOffset, waitingOffset } from './tables.ts';
import type { TaskFilter } from './task-filter.ts';

/** One way in which a task can be in a list: an equality for each leading column of an index, and what else must hold. */
export interface Branch {
  /** The index to walk; without one the optimizer chooses. */
  readonly index?: ListIndex;
  readonly ownerId?: Slot;
  readonly organizationId?: Slot;
  /** Equalities of which one must hold. */
  readonly statuses: readonly StatusEquality[];
  /** Tasks of these organizations, and those that are shared within a scope if `sharing` is given. */
  readonly readable?: { readonly organizations: readonly Slot[]; readonly sharing?: BoundSharing };
  /** All that makes a task readable, where no index says any of it. */
  readonly scope?: BoundScope;
  /** Somebody whose shared tasks are walked, by kind and id in `workspace_task_acl`, instead of an index of all tasks. */
  readonly subject?: { readonly kind: number; readonly id: Slot };
  /** Trigrams of the name, whose few tasks are read one by one, instead of walking an index of all tasks. */
  readonly nameTrigrams?: readonly Slot[];
}

/** An index of the lists of one owner, one organization, or all: of one status if it says so, and in an order. */
type ListIndex = `${'own' | 'org' | 'all'}${'_st' | ''}_${(typeof listOrders)[ListOrder]['index']}` | 'own_kind';

/** What tells the tasks of a status, or all that are not deleted. Some indexes have `live` behind `list_status`. */
export type StatusEquality = { readonly live: 1 } | { readonly list_status: number; readonly live?: 0 | 1 };

/** How the tasks of a filter are found within a scope. */
export interface Branches {
  readonly branches: readonly Branch[];
  /** What else is asked of the tasks of each branch. */
  readonly filter: BoundFilter;
}

/** The WorkspaceStatus of what is deleted. */
export const deletedStatus = 10;

/** Every WorkspaceStatus. */
export const allStatuses: readonly number[] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

/** Every value of `list_status`: 0 without a workspace. */
const allListStatuses: readonly number[] = [0, ...allStatuses, ...Array.from(canWait, (status) => status + waitingOffset)];

/**
 * Above this many branches a union costs more than it saves: then one scan within the statement limit does the work. A branch
 * that finds nothing takes some 0.03 ms of the database and 0.1 ms of ours; people with 50 groups are still below.
 */
export const maxBranches = 64;

/** Which tasks are selected: by which filter, for which caller, and in which order. */
export interface TaskSelection {
  readonly scope: Scope;
  readonly filter: TaskFilter;
  readonly order: ListOrder;
  /** Trigrams of the name that few tasks have: these tasks are then one branch, whatever the scope. */
  readonly nameTrigrams?: readonly Buffer[] | undefined;
}

/**
 * The branches whose union is the list. A caller who may read in several ways has one branch for each way, and each status one
 * or two, because an index serves equalities in order but neither OR nor IN. Undefined means that nothing can be read.
 *
 * @param most more branches than these become one walk.
 */
export function branchesOf(bindings: Bindings, selection: TaskSelection, most = Number.POSITIVE_INFINITY): Branches | undefined {
  const filter = withinToken(selection.scope, selection.filter);
  const statuses = statusesOf(filter);
  const selected: SelectionByStatus = { ...selection, filter, statuses };
  // Nothing that is pending, for one, waits for input.
  const lists = [filter.templateIds, filter.ids, filter.workspaceIds, statuses];
  if (lists.some((list) => list?.length === 0)) return undefined;
  if (selection.nameTrigrams !== undefined) {
    const branch = { ...scanOf(bindings, selected), nameTrigrams: bindings.bindList(selection.nameTrigrams) };
    return { branches: [branch], filter: bindFilter(bindings, filter) };
  }
  const shared = sharedBranches(bindings, selected);
  if (shared !== undefined) return shared;
  const branches =
    filter.ownerId === undefined ? branchesOfAll(bindings, selected) : branchesOfOwner(bindings, selected, filter.ownerId);
  if (branches.length === 0) return undefined;
  return { branches: branches.length > most ? [scanOf(bindings, selected)] : branches, filter: bindFilter(bindings, filter) };
}

interface SelectionByStatus extends TaskSelection {
  readonly statuses: readonly StatusEquality[];
}

/** One owner's tasks are few enough to walk in their order and look up what is shared; that keeps it one branch. */
function branchesOfOwner(bindings: Bindings, selected: SelectionByStatus, owner: Buffer): Branch[] {
  const { scope } = selected;
  const ownerId = bindings.bind(owner);
  if (scope.everything) return walk(selected, 'own', { ownerId });
  const organizations = organizationsOf(scope, owner);
  if (organizations.length === 0 && scope.sharedWith.length === 0) return [];
  const readable = { organizations: bindings.bindList(organizations), sharing: bindSharing(bindings, scope) };
  return walk(selected, 'own', { ownerId, readable });
}

/** The organizations in which all tasks of an owner are read. */
export function organizationsOf(scope: Scope, owner: Buffer): readonly Buffer[] {
  return owner.equals(scope.userId) ? [...scope.ownIn, ...scope.organizations] : scope.organizations;
}

/** Everybody's tasks, in one organization or in all. */
function branchesOfAll(bindings: Bindings, selected: SelectionByStatus): Branch[] {
  const { scope, statuses } = selected;
  const { organizationId } = selected.filter;
  const walkOrganization = (id: Buffer) => walk(selected, 'org', { organizationId: bindings.bind(id) });
  if (scope.everything) return organizationId === undefined ? walk(selected, 'all', {}) : walkOrganization(organizationId);
  const wanted = (id: Buffer): boolean => organizationId === undefined || organizationId.equals(id);
  // Of an organization that is read as a whole, no other way leads to more.
  const others = (id: Buffer): boolean => wanted(id) && !hasId(scope.organizations, id);
  const branches: Branch[] = [];
  const ownIn = scope.ownIn.filter(others);
  if (ownIn.length > 0) {
    const readable = { organizations: bindings.bindList(ownIn) };
    branches.push(...walk(selected, 'own', { ownerId: bindings.bind(scope.userId), readable }));
  }
  for (const id of scope.organizations.filter(wanted)) branches.push(...walkOrganization(id));
  // A group reaches wherever the caller is a member, but Everyone of an organization in that alone.
  const reach = bindings.bindList(scope.memberOf.filter(others));
  // What is shared with somebody is one range, whatever the status: that is looked up in the task.
  for (const { kind, id } of scope.sharedWith) {
    const branch = () => ({ statuses, subject: { kind: aclKinds[kind], id: bindings.bind(id) } });
    if (kind === 'user') {
      if (organizationId === undefined || others(organizationId)) branches.push(branch());
    } else if (!hasId(scope.memberOf, id)) {
      if (reach.length > 0) branches.push({ ...branch(), readable: { organizations: reach } });
    } else if (others(id)) branches.push({ ...branch(), readable: { organizations: [bindings.bind(id)] } });
  }
  return branches;
}

/** A branch for each status, along an index that begins with what is equal. */
function walk(
  selected: SelectionByStatus,
  scopeIndex: 'own' | 'org' | 'all',
  equal: Omit<Branch, 'index' | 'statuses'>,
): Branch[] {
  const { filter, order, statuses } = selected;
  const suffix = listOrders[order].index;
  const byStatus = statuses !== live || suffix === 'sa';
  // A few ids or workspaces, or a rare template, are found faster through their own index than by walking the scope's: that choice
  // is the optimizer's.
  const named = filter.templateIds ?? filter.ids ?? filter.workspaceIds;
  const forced = named === undefined && !(suffix === 'name' && byStatus);
  const index: ListIndex = `${scopeIndex}${byStatus ? '_st' : ''}_${suffix}`;
  const equalities = forced && suffix === 'sa' ? eachWithLive(statuses) : statuses;
  return equalities.map((status) => ({ ...(forced ? { index } : {}), ...equal, statuses: [status] }));
}

/**
 * The same tasks for the indexes by `state_at`, all of which have `list_status` and `live` in front: what is not deleted is a branch
 * for each status. A report moves the entry of a task in all of these indexes, so that there are no others without the status.
 */
function eachWithLive(statuses: readonly StatusEquality[]): StatusEquality[] {
  const listStatuses = statuses.flatMap((status) => ('list_status' in status ? status.list_status : allListStatuses));
  const withDeleted = statuses !== live && listStatuses.includes(deletedStatus);
  return [
    ...listStatuses.map((status) => ({ list_status: status, live: 1 as const })),
    ...(withDeleted ? [{ list_status: deletedStatus, live: 0 as const }] : []),
  ];
}

/**
 * The tasks that a filter wants to be shared with somebody, by the rows that say so: with the right to read, and without. Undefined
 * when it wants no such thing, or what is deleted, of which there are no such rows, or only some ids.
 */
function sharedBranches(bindings: Bindings, { scope, filter, statuses }: SelectionByStatus): Branches | undefined {
  const { ownerId, sharedWithUserId, sharedWithGroupId, status, ids } = filter;
  const id = sharedWithUserId ?? sharedWithGroupId;
  if (id === undefined || status === deletedStatus || ids !== undefined) return undefined;
  // Where both are asked for, one is walked, and the other looked up.
  const kind = sharedWithUserId === undefined ? 'group' : 'user';
  const { sharedWithUserId: _user, ...ofUser } = filter;
  const { sharedWithGroupId: _group, ...ofGroup } = filter;
  const isCaller = kind === 'user' && scope.sharedWith.some((one) => one.kind === kind && one.id.equals(id));
  const boundScope = bindScope(bindings, scope);
  const subjectId = bindings.bind(id);
  const branch = { ...(ownerId === undefined ? {} : { ownerId: bindings.bind(ownerId) }), statuses };
  return {
    branches: [
      { ...branch, ...(isCaller ? {} : { scope: boundScope }), subject: { kind: aclKinds[kind], id: subjectId } },
      { ...branch, scope: boundScope, subject: { kind: aclKinds[kind] + namedOnlyOffset, id: subjectId } },
    ],
    filter: bindFilter(bindings, kind === 'user' ? ofUser : ofGroup),
  };
}

/**
 * One walk in an index of the optimizer's choice, and for each task a look whether it may be read.
 *
 *     from workspace_tasks as t where (t.list_status = ? or …) and (t.owner_id = ? and … or t.organization_id in (…) or exists …)
 */
function scanOf(bindings: Bindings, { scope, filter, statuses }: SelectionByStatus): Branch {
  const ownerId = filter.ownerId === undefined ? {} : { ownerId: bindings.bind(filter.ownerId) };
  return { ...ownerId, statuses, scope: bindScope(bindings, scope) };
}

/** The filter, with the tasks and workspaces that the caller's token is good for. */
function withinToken({ onlyIds, onlyWorkspaces }: Scope, filter: TaskFilter): TaskFilter {
  return {
    ...filter,
    ...(onlyIds === undefined ? {} : { ids: within(onlyIds, filter.ids) }),
    ...(onlyWorkspaces === undefined ? {} : { workspaceIds: within(onlyWorkspaces, filter.workspaceIds) }),
  };
}

function within(only: readonly Buffer[], asked: readonly Buffer[] | undefined): readonly Buffer[] {
  return asked === undefined ? only : only.filter((id) => hasId(asked, id));
}

/** The branches of a list by status: all that are not deleted, or those of a status, waiting for input or not. */
export function statusesOf({ status, waiting }: TaskFilter): readonly StatusEquality[] {
  if (status === undefined && waiting !== true) return live;
  const wanted = status === undefined ? [...canWait] : [status];
  return wanted.flatMap((one) => [
    ...(waiting === true ? [] : [{ list_status: one }]),
    ...(canWait.has(one) && waiting !== false ? [{ list_status: one + waitingOffset }] : []),
  ]);
}
const live: readonly StatusEquality[] = [{ live: 1 }];

/**
 * Whether the rows of `workspace_task_acl` alone say what is in a branch, and in which order: their tasks are not deleted, and
 * nothing else is asked.
 */
export function isOfAclAlone(
  { subject, ownerId, statuses, readable, scope }: Branch,
  filter: BoundFilter,
  order: ListOrder = 'created_at',
): boolean {
  const nothingElse = Object.keys(filter).every((key) => key === 'organizationId');
  return (
    nothingElse &&
    listOrders[order].index === 'ct' &&
    subject !== undefined &&
    scope === undefined &&
    ownerId === undefined &&
    readable?.sharing === undefined &&
    statuses.every((status) => 'live' in status)
  );
}
