/**
 * A task as a source has it, before the rules of `project-task.ts`. Ids are 16 bytes, times are text in UTC with microseconds,
 * enums are Coder's words.
 */
export interface SourcedTask {
  readonly id: Buffer;
  /** Null while it has none. */
  readonly workspaceId: Buffer | null;
  readonly ownerId: Buffer;
  readonly organizationId: Buffer;
  readonly templateId: Buffer;
  /** The version it was created with. */
  readonly templateVersionId: Buffer;
  readonly name: string;
  /** Null when it has none: then it is made of the prompt. */
  readonly displayName: string | null;
  /** The first bytes of the prompt in UTF-8, `promptFactBytes` at most. */
  readonly prompt: Buffer | null;
  readonly deleted: boolean;
  readonly workspaceDeleted: boolean;
  readonly createdAt: string;
  readonly updatedAt: string;
  /** Of the workspace; JSON as text, see `TaskFacts`. */
  readonly favorite: boolean;
  readonly dormantAt: string | null;
  readonly userAcl: string | null;
  readonly groupAcl: string | null;
  readonly aclIsCut: boolean;
  /** The workspace's latest build, and its job. */
  readonly build: SourcedBuild | undefined;
  /** The number of the build that the task names. */
  readonly buildNumber: number;
  /** The build that its phase is judged by. */
  readonly phaseBuild: Pick<SourcedBuild, 'transition' | 'jobStatus'> | undefined;
  /** The agent that runs it and the app through which it reports. */
  readonly agent: { readonly id: Buffer; readonly lifecycle: string | undefined } | undefined;
  readonly app: { readonly id: Buffer; readonly health: string } | undefined;
  /** The newest app status over all apps and builds of the workspace. */
  readonly report:
    | { readonly state: string; readonly message: string; readonly uri: string | null; readonly createdAt: string }
    | undefined;
}

/** A build of a workspace, and its job. */
export interface SourcedBuild {
  readonly id: Buffer;
  readonly templateVersionId: Buffer;
  readonly transition: string;
  readonly createdAt: string;
  /** Null while there is no job. */
  readonly jobStatus: string | null;
  readonly jobCompleted: boolean;
  readonly jobCanceled: boolean;
  /** Whether the error is not NULL; it may be empty. */
  readonly jobError: boolean;
}
