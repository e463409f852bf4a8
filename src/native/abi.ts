/**
 * TypeScript's view of `native/abi.h`: offsets in bytes from a structure's start, `size` its own size.
 * `assertLayout` compares it with the library's at load, so the two sides cannot drift apart.
 */

interface Layout {
  readonly bytes: number;
  readonly at: Readonly<Record<string, number>>;
}

function layout<const Members extends Readonly<Record<string, number>>>(
  bytes: number,
  at: Members,
): { readonly bytes: number; readonly at: Members } {
  return { bytes, at };
}

export const ABI_VERSION = 1;

export const RECORD = layout(128, {
  size: 0,
  kind: 4,
  blobs: 6,
  slot: 8,
  error: 12,
  id: 16,
  pid: 24,
  nr: 28,
  arch: 32,
  ip: 40,
  args: 48,
  fds: 96,
});

export const BLOB = layout(8, { length: 0, arg: 4, cut: 6 });

export const ANSWER = layout(40, { slot: 0, kind: 4, id: 8, value: 16, error: 24, flags: 28, fd: 32, fd_flags: 36 });

export const SHAPE = layout(8, { kind: 0, arg: 1, length_arg: 2, limit: 4 });

export const MESSAGE = layout(16, { type: 0, size: 4, launch_id: 8 });

/** A span is two 32-bit words: offset from the plan's start, length in bytes. */
export const PLAN = layout(168, {
  sandbox_id: 16,
  magic: 24,
  flags: 28,
  uid: 32,
  gid: 36,
  umask: 40,
  filter_flags: 44,
  argv: 48,
  envp: 56,
  search: 64,
  cwd: 72,
  rlimits: 80,
  outer: 88,
  inner: 96,
  filter: 104,
  denied: 112,
  mounts: 120,
  whole: 128,
  memory_bytes: 136,
  cpu_time_us: 144,
  max_tasks: 152,
  tasks_kept: 156,
  cpu_millis: 160,
});

export const RLIMIT = layout(24, { resource: 0, soft: 8, hard: 16 });
export const RULESET = layout(32, { handled_fs: 0, handled_net: 8, scoped: 16, path_count: 24, port_count: 28 });
export const PATH_RULE = layout(32, {
  access: 0,
  inode: 8,
  device_major: 16,
  device_minor: 20,
  flags: 24,
  length: 28,
});
export const IDENTITY = layout(16, { inode: 0, device_major: 8, device_minor: 12 });
export const MOUNT = layout(24, { op: 0, flags: 4, mode: 8, path: 12, source: 16, data: 20 });
export const PORT_RULE = layout(16, { access: 0, port: 8 });
export const SIGNAL = layout(24, { signal: 16, scope: 20 });
export const HELLO = layout(24, { abi: 16, pid: 20 });
export const READY = layout(32, { pid: 16, inner_pid: 20, keeper_pid: 24 });
export const LIMIT_REPORT = layout(40, { limit: 16, memory_bytes: 24, cpu_us: 32 });
export const STARTED = layout(200, { pid: 16, stage_ns: 24 });
export const FAILED = layout(32, { stage: 16, error: 20, detail: 24 });
export const EXITED = layout(56, { pid: 16, status: 20, user_us: 24, system_us: 32, max_rss_kib: 40, time_ns: 48 });
export const KEEPER_PORT_RANGE = layout(4, { first: 0, last: 2 });
export const KEEPER_PROCESS = layout(16, { change: 0, pid: 4, value: 8 });
export const KEEPER_REQUEST = layout(32, { op: 0, flags: 4, op_id: 8, mode: 16, umask: 20, signal: 24, length: 28 });
export const KEEPER_ACT = layout(64, {
  act: 0,
  options: 4,
  uid: 8,
  gid: 12,
  path: 16,
  name: 20,
  value: 24,
  times: 32,
});
export const KEEPER_SEND = layout(24, { flags: 0, name: 4, control: 8, data: 12, pin: 16 });
export const KEEPER_REPLY = layout(40, { op: 0, error: 4, op_id: 8, flags: 16, length: 20, device: 24, inode: 32 });
export const KEEPER_PROGRAM = layout(8, { path: 0, head: 4 });
export const WATCH = layout(48, { op: 0, tid: 4, op_id: 8, device: 16, inode: 24, tgid: 32, flags: 36, length: 40 });
export const WATCHED = layout(16, { op_id: 0, event: 8, error: 12 });

export const SOURCE = { listener: 1, channel: 2, task: 3, wake: 4 } as const;

export const RECORD_KIND = { call: 1, terminal: 2, message: 3, task: 4, wake: 5, outcome: 6, fault: 7 } as const;

export const ANSWER_KIND = { send: 1, fd: 2 } as const;
export const ANSWER_FLAG = { continue: 1 } as const;

export const SHAPE_KIND = { string: 1, bytes: 2, strings: 3, block: 4 } as const;
export const SHAPES_PER_CALL = 3;
export const MAX_FDS = 8;
/** From the engine to a keeper. */
export const MAX_SENT_FDS = 253;

export const MESSAGE_TYPE = {
  launch: 1,
  exec: 2,
  signal: 3,
  kill: 4,
  hello: 16,
  ready: 17,
  started: 18,
  failed: 19,
  exited: 20,
  gone: 21,
  limit: 22,
} as const;

/** By number (native/abi.h, enum sg_limit). */
export const LIMITS = [
  "none",
  "memory",
  "cpu_time",
  "unseen",
  "tasks",
  "tasks_full",
  "share_used",
  "share_free",
] as const;

/** What the keeper does to a process; native/abi.h, enum sg_process_change. */
export const PROCESS_CHANGE = {
  ask: 0,
  affinity: 1,
  scheduler: 2,
  parameters: 3,
  priority: 4,
  ioPriority: 5,
  limit: 6,
} as const;
export const PROCESS_VALUE_LIMIT = 1024;

export const SIGNAL_SCOPE = { process: 1, group: 2 } as const;

export const PLAN_MAGIC = 0x31504753;

export const PLAN_FLAG = {
  memfd: 1 << 0,
  terminal: 1 << 1,
  nursery: 1 << 2,
  newPidNamespace: 1 << 3,
  newUserNamespace: 1 << 4,
  setIds: 1 << 5,
  noLandlock: 1 << 6,
  noBounding: 1 << 7,
  umask: 1 << 8,
  newMountNamespace: 1 << 9,
  samePaths: 1 << 10,
  init: 1 << 12,
} as const;

export const PATH_FLAG = { optional: 1 << 0, exact: 1 << 1 } as const;

/** Steps of the mounts part; native/abi.h, enum sg_mount_op. */
export const MOUNT_OP = {
  root: 1,
  bind: 2,
  tmpfs: 3,
  proc: 4,
  file: 5,
  hide: 6,
  writable: 7,
  readOnly: 8,
  link: 9,
} as const;
export const MOUNT_FLAG = { readOnly: 1 << 0, optional: 1 << 1, make: 1 << 2, open: 1 << 3 } as const;
export const MAX_MOUNTS = 1024;
/** File steps whose descriptors come with READY, in the order of the plan. */
export const MAX_OPEN_FILES = 4;

/** By number; the order is the order of a launch (native/abi.h, enum sg_stage). */
export const STAGES = [
  "none",
  "receive",
  "clone",
  "session",
  "terminal",
  "namespaces",
  "mounts",
  "ids",
  "cwd",
  "program",
  "rlimits",
  "capabilities",
  "no_new_privs",
  "landlock_outer",
  "keeper",
  "landlock_inner",
  "filter",
  "attach",
  "nursery",
  "descriptors",
  "environment",
  "exec",
] as const;
export type Stage = (typeof STAGES)[number];

export const KEEPER_OP = {
  process: 20,
  listen: 21,
  resolve: 1,
  open: 2,
  release: 3,
  connect: 4,
  signal: 5,
  cancel: 6,
  act: 7,
  listener: 8,
  send: 9,
  program: 10,
  bind: 11,
} as const;
/** What an act does; native/abi.h, enum sg_act. */
export const ACT = {
  chmod: 1,
  chown: 2,
  utime: 3,
  setxattr: 4,
  removexattr: 5,
  watch: 6,
  open: 7,
  mkdir: 8,
  mknod: 9,
  rmdir: 10,
  unlink: 11,
  symlink: 12,
  link: 13,
  rename: 14,
  truncate: 15,
} as const;
/** The error of an act that is the kernel's to decide. */
export const ACT_LEAVE = 4095;
export const ACT_FLAG = { noFollow: 1 << 0, descriptor: 1 << 1, opened: 1 << 2 } as const;
export const ACT_VALUE_LIMIT = 65536;
export const SEND_CONTROL_LIMIT = 4096;
export const SEND_DATA_LIMIT = 65536;
/** Of requests, then of replies. */
export const KEEPER_ANSWER = 1;
export const KEEPER_PINNED = 2;
export const KEEPER_FLAG = { exists: 1, answered: 2 } as const;
export const TRACER_OP = { watch: 1, drop: 2 } as const;
export const TRACER_EVENT = { refused: 1, armed: 2, ran: 3, returned: 4, gone: 5, killed: 6 } as const;
export const WATCH_FLAG = { prefix: 1 } as const;

const LAYOUTS: Readonly<Record<string, Layout>> = {
  sg_record: RECORD,
  sg_blob: BLOB,
  sg_answer: ANSWER,
  sg_shape: SHAPE,
  sg_message: MESSAGE,
  sg_plan: PLAN,
  sg_rlimit: RLIMIT,
  sg_ruleset: RULESET,
  sg_path_rule: PATH_RULE,
  sg_identity: IDENTITY,
  sg_mount: MOUNT,
  sg_port_rule: PORT_RULE,
  sg_signal: SIGNAL,
  sg_hello: HELLO,
  sg_ready: READY,
  sg_limit_report: LIMIT_REPORT,
  sg_started: STARTED,
  sg_failed: FAILED,
  sg_exited: EXITED,
  sg_port_range: KEEPER_PORT_RANGE,
  sg_keeper_process: KEEPER_PROCESS,
  sg_keeper_request: KEEPER_REQUEST,
  sg_keeper_act: KEEPER_ACT,
  sg_keeper_send: KEEPER_SEND,
  sg_keeper_reply: KEEPER_REPLY,
  sg_keeper_program: KEEPER_PROGRAM,
  sg_watch: WATCH,
  sg_watched: WATCHED,
};

/** The same text as `sg_layout` in native/library/layout.c writes. */
export function describeLayout(): string {
  let text = `abi ${ABI_VERSION}\n`;
  for (const [name, { bytes, at }] of Object.entries(LAYOUTS)) {
    text += `${name} ${bytes}\n`;
    for (const [member, offset] of Object.entries(at)) text += `${name}.${member} ${offset}\n`;
  }
  return text;
}

/** Throws when the loaded library was built from another `abi.h`. */
export function assertLayout(libraryText: string): void {
  const ours = describeLayout();
  if (ours === libraryText) return;
  const theirs = new Set(libraryText.split("\n"));
  const differing = ours.split("\n").filter((line) => !theirs.has(line));
  throw new Error(
    `the native library does not match src/native/abi.ts (${differing.join(", ") || "order"}); run \`npm run build:native\``,
  );
}
