import type { ClusterNode } from './cluster.ts';
import type { NodeService } from './cluster-services.ts';

/** A node with its service, as a blow finds them. */
export interface Victim {
  readonly node: ClusterNode;
  readonly service: NodeService;
}

/** What is done to a cluster in a round. */
export interface Blow {
  readonly name: string;
  /** Whom it meets: the node or the service that projects at the moment, or another. */
  readonly meets: 'active' | 'other';
  /** Whether the others have to notice that a node is gone. */
  readonly takesNode: boolean;
  /** Whether the service goes on beside a node whose data grow old: then its readiness has to say so. */
  readonly leavesOldData: boolean;
  strike(victim: Victim): Promise<void>;
  repair(victim: Victim): Promise<void>;
}

const ofNode = { takesNode: true, leavesOldData: false } as const;
const killNode = {
  ...ofNode,
  strike: ({ node }: Victim) => node.kill(),
  repair: ({ node }: Victim) => node.rejoin(),
};
const killService = {
  takesNode: false,
  leavesOldData: false,
  strike: ({ service }: Victim) => service.kill(),
  repair: ({ service }: Victim) => service.start(),
};

/** All that is done to clusters, in the order of a run. */
export const blows = {
  killActiveService: { name: 'kill -9 of the process that projects', meets: 'active', ...killService },
  killActiveNode: { name: 'kill -9 of the node it projects on', meets: 'active', ...killNode },
  killOtherNode: { name: 'kill -9 of another node', meets: 'other', ...killNode },
  pauseActiveNode: {
    name: 'the node it projects on hangs',
    meets: 'active',
    ...ofNode,
    strike: async ({ node }) => node.pause(),
    repair: async ({ node }) => {
      node.resume();
      await node.untilMember();
    },
  },
  cutOffActiveNode: {
    name: 'the node it projects on leaves and goes on',
    meets: 'active',
    takesNode: true,
    leavesOldData: true,
    strike: ({ node }) => node.leave(),
    repair: ({ node }) => node.comeBack(),
  },
  killOtherService: { name: 'kill -9 of another process', meets: 'other', ...killService },
} satisfies Record<string, Blow>;
