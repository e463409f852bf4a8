import { constants } from "node:os";
import { fileURLToPath } from "node:url";
import { getSystemErrorName } from "node:util";
import koffi from "koffi";
import { assertLayout } from "./abi.js";

/** A negative errno from the library, as an error that names the call. */
export class NativeError extends Error {
  override readonly name = "NativeError";
  readonly call: string;
  /** Positive errno. */
  readonly errno: number;
  /** Its name, such as `ENOENT`. */
  readonly code: string;

  constructor(call: string, negativeErrno: number, argument = "") {
    const code = errnoName(-negativeErrno);
    super(`${call}${argument === "" ? "" : ` ${argument}`}: ${code}`);
    this.call = call;
    this.errno = -negativeErrno;
    this.code = code;
  }
}

/** By number. Two names share EAGAIN's number and ENOTSUP's; libuv's choice wins below. */
const errnoNames: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
);

/** `ENOENT` for 2; `errno 4711` for what Node does not know. */
export function errnoName(errno: number): string {
  const name = errno > 0 ? getSystemErrorName(-errno) : ""; // libuv knows only some, and says so in words
  return /^E[A-Z0-9]+$/.test(name) ? name : (errnoNames.get(errno) ?? `errno ${errno}`);
}

/** Passes a result that is not negative; throws what a negative one means. */
export function check(call: string, result: number, argument = ""): number {
  if (result < 0) throw new NativeError(call, result, argument);
  return result;
}

/** Files that `npm run build:native` makes. */
export const nativeFiles = {
  library: fileURLToPath(new URL("../../../native/build/libsandgate.so", import.meta.url)),
  warden: fileURLToPath(new URL("../../../native/build/sandgate-warden", import.meta.url)),
  tracer: fileURLToPath(new URL("../../../native/build/sandgate-tracer", import.meta.url)),
} as const;

/** The shared library's functions. Each is documented where it is written, in `native/library/`. */
export interface Library {
  engineCreate(answers: Uint8Array, records: Uint8Array, recordsSize: number): number;
  engineDestroy(engine: number): void;
  engineShape(engine: number, nr: number, shapes: Uint8Array): number;
  engineAdd(engine: number, slot: number, type: number, fd: number): number;
  engineRemove(engine: number, slot: number): number;
  engineSend(engine: number, slot: number, bytes: Uint8Array, length: number, fds: Int32Array, fdCount: number): number;
  engineValid(engine: number, slot: number, id: Uint32Array): number;
  engineStore(
    engine: number,
    slot: number,
    id: Uint32Array,
    tid: number,
    address: bigint,
    bytes: Uint8Array,
    size: number,
  ): number;
  engineTakeSocket(engine: number, slot: number, id: Uint32Array, tid: number, fd: number, kind: Int32Array): number;
  exchange(engine: number, answerCount: number, timeoutMs: number, spinUs: number): number;

  send(fd: number, bytes: Uint8Array, length: number, fds: Int32Array, fdCount: number): number;
  channelPair(fds: Int32Array): number;
  duplicate(fd: number): number;
  eventCreate(): number;
  eventSignal(fd: number): number;
  memoryFile(bytes: Uint8Array, length: number): number;
  peerCredentials(fd: number, ids: Uint32Array): number;

  taskRead(tid: number, task: Uint8Array): number;
  taskIdentity(tid: number, identity: Uint32Array): number;
  taskParent(pid: number): number;
  taskHasSignal(tid: number): number;
  taskOpen(tid: number, tgid: number): number;
  taskSignal(pidfd: number, signal: number): number;
  taskSignalGroup(pid: number, signal: number): number;
  taskTakeFd(pidfd: number, fd: number): number;
  taskDirectory(tid: number, fd: number): number;
  taskHold(tid: number, name: string): number;
  taskLink(tid: number, name: string, buffer: Uint8Array, size: number): number;
  taskCopy(tid: number, address: bigint, buffer: Uint8Array, size: number): number;
  taskGather(
    tid: number,
    vector: bigint,
    count: bigint,
    skip: bigint,
    buffer: Uint8Array,
    size: number,
    total: BigUint64Array,
  ): number;

  probeLandlock(): number;
  probeFilterFlags(flags: number): number;
  probeNamespaces(flags: number): number;
  probeMounts(flags: number): number;
  probeCapability(capability: number): number;
  probePidfdGetfd(): number;
  probeReadMemory(): number;
  probeTrace(): number;
}

/** Loads the library into this thread and compares its layouts with ours. Throws when they differ. */
export function loadLibrary(): Library {
  const library = koffi.load(nativeFiles.library);
  const layout = library.func("int sg_layout(_Out_ uint8_t *buffer, uint32_t size)") as (
    buffer: Uint8Array,
    size: number,
  ) => number;
  const text = Buffer.alloc(16384);
  const length = layout(text, text.length);
  assertLayout(length < 0 ? "" : text.toString("latin1", 0, length));

  return {
    engineCreate: library.func("intptr_t sg_engine_create(void *answers, void *records, uint32_t records_size)"),
    engineDestroy: library.func("void sg_engine_destroy(intptr_t engine)"),
    engineShape: library.func("int sg_engine_shape(intptr_t engine, int nr, void *shapes)"),
    engineAdd: library.func("int sg_engine_add(intptr_t engine, uint32_t slot, int type, int fd)"),
    engineRemove: library.func("int sg_engine_remove(intptr_t engine, uint32_t slot)"),
    engineSend: library.func(
      "int sg_engine_send(intptr_t engine, uint32_t slot, void *bytes, uint32_t length, void *fds, uint32_t fd_count)",
    ),
    engineValid: library.func("int sg_engine_valid(intptr_t engine, uint32_t slot, void *id)"),
    engineStore: library.func(
      "int sg_engine_store(intptr_t engine, uint32_t slot, void *id, uint32_t tid, uint64_t address, void *bytes, uint32_t size)",
    ),
    engineTakeSocket: library.func(
      "int sg_engine_take_socket(intptr_t engine, uint32_t slot, void *id, uint32_t tid, int fd, void *kind)",
    ),
    exchange: library.func("int sg_exchange(intptr_t engine, uint32_t answer_count, int timeout_ms, uint32_t spin_us)"),

    send: library.func("int sg_send(int fd, void *bytes, uint32_t length, void *fds, uint32_t fd_count)"),
    channelPair: library.func("int sg_channel_pair(void *fds)"),
    duplicate: library.func("int sg_duplicate(int fd)"),
    eventCreate: library.func("int sg_event_create()"),
    eventSignal: library.func("int sg_event_signal(int fd)"),
    memoryFile: library.func("int sg_memory_file(void *bytes, uint32_t length)"),
    peerCredentials: library.func("int sg_peer_credentials(int fd, void *ids)"),

    taskRead: library.func("int sg_task_read(uint32_t tid, void *task)"),
    taskHasSignal: library.func("int sg_task_has_signal(uint32_t tid)"),
    taskIdentity: library.func("int sg_task_identity(uint32_t tid, void *identity)"),
    taskParent: library.func("uint32_t sg_task_parent(uint32_t pid)"),
    taskOpen: library.func("int sg_task_open(uint32_t tid, uint32_t tgid)"),
    taskSignal: library.func("int sg_task_signal(int pidfd, int signal)"),
    taskSignalGroup: library.func("int sg_task_signal_group(uint32_t pid, int signal)"),
    taskTakeFd: library.func("int sg_task_take_fd(int pidfd, int fd)"),
    taskDirectory: library.func("int sg_task_directory(uint32_t tid, int fd)"),
    taskHold: library.func("int sg_task_hold(uint32_t tid, const char *name)"),
    taskLink: library.func("int sg_task_link(uint32_t tid, const char *name, void *buffer, uint32_t size)"),
    taskCopy: library.func("int sg_task_copy(uint32_t tid, uint64_t address, void *buffer, uint32_t size)"),
    taskGather: library.func(
      "int sg_task_gather(uint32_t tid, uint64_t vector, uint64_t count, uint64_t skip, void *buffer, uint32_t size, void *total)",
    ),

    probeLandlock: library.func("int sg_probe_landlock()"),
    probeFilterFlags: library.func("int sg_probe_filter_flags(uint32_t flags)"),
    probeNamespaces: library.func("int sg_probe_namespaces(uint32_t flags)"),
    probeMounts: library.func("int sg_probe_mounts(uint32_t flags)"),
    probeCapability: library.func("int sg_probe_capability(uint32_t capability)"),
    probePidfdGetfd: library.func("int sg_probe_pidfd_getfd()"),
    probeReadMemory: library.func("int sg_probe_read_memory()"),
    probeTrace: library.func("int sg_probe_trace()"),
  };
}
