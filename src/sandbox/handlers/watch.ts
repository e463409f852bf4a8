import type { Handler } from "../../engine/loop.js";
import type { Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import { fileActHandler } from "./file-act.js";

const IN_DONT_FOLLOW = 0x02000000;

/**
 * `inotify_add_watch`: what may be read can be watched. It is added to a duplicate of the caller's own instance, for
 * the inode that its path led to.
 */
export function watchHandler(mediator: Mediator): Handler<EngineSandbox> {
  return fileActHandler(mediator, {
    path: 1,
    details(call) {
      const mask = call.int(2);
      return { act: "watch", options: mask, noFollow: (mask & IN_DONT_FOLLOW) !== 0, others: [call.int(0)] };
    },
  });
}
