/** A program: a decider at the socket of its argument that takes calls and never answers. Tells its parent how far it is. */
import { connect } from "../../src/client/client.js";

const [, , path = ""] = process.argv;
const call = connect(path).decision.decide();
await call.send({ message: { case: "open", value: { decider: "mute", window: 10 } } });
for await (const { message } of call.messages) process.send?.(message.case ?? "");
