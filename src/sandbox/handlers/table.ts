import { CONNECT_CALLS, EXEC_CALLS, HOLDABLE, INJECTABLE, OPEN_CALLS, SEND_CALLS } from "../../engine/bpf/filter.js";
import type { Handler, HandlerTable } from "../../engine/loop.js";
import { type Arch, syscallNumber } from "../../engine/syscalls/table.js";
import type { Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { CallCategory } from "../model.js";
import { bindHandler } from "./bind.js";
import { connectHandler } from "./connect.js";
import { execveatHandler, execveHandler } from "./exec.js";
import { listenHandler } from "./listen.js";
import { metadataHandlers } from "./metadata.js";
import { creatHandler, openatHandler, openFileHandler } from "./open.js";
import { openActHandlers, pathActHandlers } from "./path-act.js";
import { processHandlers } from "./processes.js";
import { registersHandler } from "./registers.js";
import { sendmmsgHandler, sendmsgHandler, sendtoHandler } from "./send.js";
import { watchHandler } from "./watch.js";

type Make = (mediator: Mediator) => Handler<EngineSandbox>;

/** Opens that a trigger or rule may hold are judged as such; otherwise only what the kernel does not know of is done. */
function opening(held: Make, name: string): Make {
  return (mediator) => {
    const judged = held(mediator);
    const served = openActHandlers[name]?.(mediator);
    return {
      shapes: judged.shapes,
      handle: (call, sandbox) =>
        served !== undefined && sandbox.policy.holdOpen === "none"
          ? served.handle(call, sandbox)
          : judged.handle(call, sandbox),
    };
  };
}

/** Calls whose arguments are in memory. */
const DECODED: Readonly<Record<string, Make>> = {
  execve: execveHandler,
  execveat: execveatHandler,
  open: opening(openFileHandler, "open"),
  openat: opening(openatHandler, "openat"),
  creat: opening(creatHandler, "creat"),
  connect: connectHandler,
  sendto: sendtoHandler,
  sendmsg: sendmsgHandler,
  sendmmsg: sendmmsgHandler,
  bind: bindHandler,
  listen: listenHandler,
  inotify_add_watch: watchHandler,
  ...metadataHandlers,
  ...pathActHandlers,
  ...processHandlers,
};

const CATEGORIES: Readonly<Record<CallCategory, readonly string[]>> = {
  file: OPEN_CALLS,
  network: [...CONNECT_CALLS, ...SEND_CALLS, "socket", "socketpair"],
  memory: ["mprotect", "pkey_mprotect"],
  ipc: ["kill", "tkill", "tgkill", "pidfd_open", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo"],
  process: [
    ...EXEC_CALLS,
    "clone",
    "clone3",
    "fork",
    "vfork",
    "setuid",
    "setgid",
    "setpriority",
    "prctl",
    "userfaultfd",
  ],
};

/** The category of a call that can be held. */
export function categoryOf(syscall: string): CallCategory {
  const found = Object.entries(CATEGORIES).find(([, names]) => names.includes(syscall));
  return (found?.[0] ?? "process") as CallCategory;
}

/**
 * One handler for every call that a filter can notify: what can be held, and what a checkpointable
 * sandbox leaves to the engine.
 */
export function createHandlers(arch: Arch, mediator: Mediator): HandlerTable<EngineSandbox> {
  const table = new Map<number, Handler<EngineSandbox>>();
  for (const name of new Set([...Object.keys(DECODED), ...HOLDABLE, ...INJECTABLE.map(({ syscall }) => syscall)])) {
    const number = syscallNumber(arch, name);
    // openat2's flags are in memory: it is refused, never notified, where opens are held.
    if (number === undefined || name === "openat2") continue;
    const make = DECODED[name];
    table.set(number, make === undefined ? registersHandler(mediator, categoryOf(name)) : make(mediator));
  }
  return table;
}
