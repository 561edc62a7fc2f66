/** An organization of the demo. */
export interface DemoOrganization {
  readonly name: string;
  readonly displayName: string;
  readonly icon: string;
  /** A fixed id; otherwise one is derived from the name. */
  readonly id?: string;
}

/** A user of the demo. */
export interface DemoUser {
  readonly username: string;
  readonly name: string;
  readonly avatar: string;
  /** `active` where absent. */
  readonly status?: 'suspended' | 'dormant';
  /** Site roles besides `member`. */
  readonly roles?: readonly string[];
  /** The organizations the user belongs to, with the roles there besides `organization-member`. */
  readonly organizations: Readonly<Record<string, readonly string[]>>;
  readonly groups?: readonly string[];
  readonly id?: string;
}

/** The organizations: a company that ships a shop, and the consultants who work with it. */
export const demoOrganizations: readonly DemoOrganization[] = [
  { name: 'atlas', displayName: 'Atlas Commerce', icon: '/icon/shop.svg', id: '241e869f-1a61-42c9-ae1e-9d46df874058' },
  { name: 'meridian', displayName: 'Meridian Partners', icon: '/emojis/1f9ed.png' },
];

/** Groups by organization; each organization also has its group Everyone, whose id is the organization's. */
export const demoGroups: Readonly<Record<string, readonly string[]>> = {
  atlas: ['backend', 'frontend', 'release'],
  meridian: ['field-apps'],
};

const atlas = { atlas: [] };
const meridian = { meridian: [] };

/** The users: the five personas of the documentation, an organization's admin, and colleagues who make lists look alive. */
export const demoUsers: readonly DemoUser[] = [
  { username: 'admin', name: 'Site Admin', avatar: '', roles: ['owner'], organizations: atlas },
  {
    username: 'developer',
    name: 'Dana Whitfield',
    avatar: 'https://avatars.example.com/u/dana-whitfield.png',
    organizations: atlas,
    groups: ['backend', 'release'],
    id: '9e9b9475-0fc0-47b2-9170-a5b7b9a075ee',
  },
  {
    username: 'teammate',
    name: 'Theo Lindqvist',
    avatar: 'https://avatars.example.com/u/theo-lindqvist.png',
    organizations: atlas,
    groups: ['backend'],
  },
  {
    username: 'outsider',
    name: 'Odile Fournier',
    avatar: 'https://avatars.example.com/u/odile-fournier.png',
    organizations: meridian,
    groups: ['field-apps'],
  },
  { username: 'suspended', name: 'Sam Ortega', avatar: '', status: 'suspended', organizations: atlas },
  {
    username: 'lead',
    name: 'Leila Haddad',
    avatar: 'https://avatars.example.com/u/leila-haddad.png',
    organizations: { atlas: ['organization-admin'] },
    groups: ['release'],
  },
  {
    username: 'mei',
    name: 'Mei Tanaka 田中 芽衣',
    avatar: 'https://avatars.example.com/u/mei-tanaka.png',
    organizations: { ...atlas, ...meridian },
    groups: ['frontend', 'field-apps'],
  },
  {
    username: 'tomas',
    name: 'Tomáš Novák',
    avatar: 'https://avatars.example.com/u/tomas-novak.png',
    organizations: atlas,
    groups: ['frontend'],
  },
  { username: 'amara', name: 'Amara Okafor', avatar: '', organizations: atlas, groups: ['backend', 'frontend'] },
  {
    username: 'priya',
    name: 'Priya Raman',
    avatar: 'https://avatars.example.com/u/priya-raman.png',
    roles: ['template-admin'],
    organizations: atlas,
  },
  { username: 'noah', name: 'Noah Becker', avatar: '', roles: ['auditor'], organizations: atlas },
  { username: 'yusuf', name: 'Yusuf Demir', avatar: '', status: 'dormant', organizations: atlas },
  { username: 'release-bot', name: 'Release Bot', avatar: '/emojis/1f916.png', organizations: atlas, groups: ['release'] },
  {
    username: 'ingrid',
    name: 'Ingrid Solberg',
    avatar: 'https://avatars.example.com/u/ingrid-solberg.png',
    organizations: { meridian: ['organization-admin'] },
  },
];

/** A template of the demo. */
export interface DemoTemplate {
  /** How the other tables name it; unlike the name it is unique over all organizations. */
  readonly key: string;
  readonly organization: string;
  readonly name: string;
  readonly displayName: string;
  readonly icon: string;
  /** Versions from the oldest to the active one. */
  readonly versions: readonly string[];
  /** Whether it runs agents on a prompt. */
  readonly agent: boolean;
  readonly deleted?: true;
  /** Parameters that each build has, besides the prompt. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly resource: readonly [type: string, name: string];
  readonly id?: string;
}

const container = ['docker_container', 'workspace'] as const;
const pod = ['kubernetes_deployment', 'main'] as const;

/** The templates, those of agents and plain ones; one is deleted while a task still runs on it. */
export const demoTemplates: readonly DemoTemplate[] = [
  {
    key: 'coding',
    organization: 'atlas',
    name: 'coding-agent',
    displayName: 'Coding Agent',
    icon: '/icon/tasks.svg',
    versions: ['steady-otter-41', 'brisk-heron-57'],
    agent: true,
    parameters: { Repository: 'atlas/storefront', Region: 'eu-central' },
    resource: container,
    id: 'accab607-bbda-4794-89ac-da3926a8b71c',
  },
  {
    key: 'monorepo',
    organization: 'atlas',
    name: 'monorepo-agent',
    displayName: 'Agent on the Monorepo',
    icon: '/icon/git.svg',
    versions: ['v2026.9.1', 'v2026.10.0', 'v2026.11.2'],
    agent: true,
    parameters: { Region: 'eu-central', 'Instance size': 'large' },
    resource: pod,
  },
  {
    key: 'docs',
    organization: 'atlas',
    name: 'docs-agent',
    displayName: 'Documentation Writer',
    icon: '/emojis/1f4dd.png',
    versions: ['quiet-lynx-08'],
    agent: true,
    parameters: { Repository: 'atlas/handbook' },
    resource: container,
  },
  {
    key: 'data',
    organization: 'atlas',
    name: 'data-agent',
    displayName: 'Data & Notebooks',
    icon: 'https://assets.example.com/icons/notebook.svg',
    versions: ['2026-08', '2026-11'],
    agent: true,
    parameters: { Warehouse: 'analytics-ro', 'Instance size': 'xlarge' },
    resource: pod,
  },
  {
    key: 'legacy',
    organization: 'atlas',
    name: 'legacy-agent',
    displayName: '',
    icon: '🦕',
    versions: ['final'],
    agent: true,
    deleted: true,
    parameters: {},
    resource: container,
  },
  {
    key: 'kubernetes',
    organization: 'atlas',
    name: 'kubernetes',
    displayName: 'Kubernetes',
    icon: '/icon/k8s.png',
    versions: ['1.31-a', '1.32-b'],
    agent: false,
    parameters: { Region: 'eu-central', 'Instance size': 'medium' },
    resource: pod,
  },
  {
    key: 'docker',
    organization: 'atlas',
    name: 'docker',
    displayName: 'Docker Containers',
    icon: '/icon/docker.png',
    versions: ['gentle-finch-19'],
    agent: false,
    parameters: { Image: 'atlas/devbox:24' },
    resource: container,
  },
  {
    key: 'partner-coding',
    organization: 'meridian',
    name: 'coding-agent',
    displayName: 'Coding Agent',
    icon: '/icon/tasks.svg',
    versions: ['calm-badger-73'],
    agent: true,
    parameters: { Repository: 'meridian/route-planner' },
    resource: container,
  },
  {
    key: 'mobile',
    organization: 'meridian',
    name: 'mobile-agent',
    displayName: 'Mobile App Agent',
    icon: '/emojis/1f4f1.png',
    versions: ['r17', 'r18'],
    agent: true,
    parameters: { Platform: 'android' },
    resource: ['aws_instance', 'builder'],
  },
  {
    key: 'vm',
    organization: 'meridian',
    name: 'linux-vm',
    displayName: 'Linux VM',
    icon: '/icon/aws.svg',
    versions: ['debian-12'],
    agent: false,
    parameters: { 'Instance type': 't3.large' },
    resource: ['aws_instance', 'dev'],
  },
];
