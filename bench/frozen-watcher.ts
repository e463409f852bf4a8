/** A watcher of everything at the socket of its argument, to be stopped with SIGSTOP once it says that it reads. */
import { connect } from "../src/client/client.js";

const [, , address = ""] = process.argv;
process.once("disconnect", () => process.exit());
for await (const { caughtUp } of connect(address).watch.watch({})) if (caughtUp) process.send?.("reading");
