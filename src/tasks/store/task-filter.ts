/** Which tasks to list, in terms of columns. All that are given must hold. Times are DATETIME(6) in UTC, as text. */
export interface TaskFilter {
  /** One owner's tasks, or everyone's when absent. */
  readonly ownerId?: Buffer;
  readonly organizationId?: Buffer;
  readonly ids?: readonly Buffer[];
  /** Workspaces, any of them. */
  readonly workspaceIds?: readonly Buffer[];
  /** Templates, any of them. */
  readonly templateIds?: readonly Buffer[];
  /** A part of the name, in any case. */
  readonly name?: string;
  /** A part of the first 1,000 characters of the prompt, in any case. */
  readonly prompt?: string;
  /** A WorkspaceStatus. Without one, deleted tasks are left out. */
  readonly status?: number;
  /** A TaskPhase. */
  readonly phase?: number;
  /** A TaskState. */
  readonly state?: number;
  readonly waiting?: boolean;
  readonly agentStatuses?: readonly string[];
  readonly dormant?: true;
  readonly outdated?: boolean;
  readonly externalAgent?: boolean;
  readonly shared?: boolean;
  /** The user, or the group, whom the workspace is shared with by name. */
  readonly sharedWithUserId?: Buffer;
  readonly sharedWithGroupId?: Buffer;
  /** The latest build has a parameter of one of these names, lower-cased. */
  readonly parameterNames?: readonly string[];
  /** The latest build has a parameter of one of these names with its value, both lower-cased. */
  readonly parameterValues?: readonly (readonly [name: string, value: string])[];
  readonly createdAfter?: string;
  readonly createdBefore?: string;
  readonly lastUsedAfter?: string;
  readonly lastUsedBefore?: string;
}
