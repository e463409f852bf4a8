// @ts-check
/**
 * Runs a program in a sandbox and decides, from Node, which hosts it may reach.
 *
 * The program tries two addresses. Both are answered by the same listener, which this script opens, so what
 * makes the difference is the verdict: one connect is allowed, the other refused.
 */
import { randomUUID } from "node:crypto";
import { createServer } from "node:net";
import { connect, OutcomeReporting, RemoteError, StdioStream, Transport } from "sandgate/client";

const allowedHost = "127.0.0.1";
const refusedHost = "127.0.0.2";

const guest = `
for host in "$1" "$2"; do
  if read -r line <"/dev/tcp/$host/$3"; then echo "$host says $line"; else echo "$host is out of reach"; fi
done
`;

/** @param {string} address */
async function main(address) {
  const client = connect(address);
  const greeter = createServer((socket) => socket.end("hello\n"));
  try {
    await new Promise((resolve) => greeter.listen(0, "0.0.0.0", () => resolve(undefined)));
    const bound = greeter.address();
    const port = typeof bound === "object" && bound !== null ? bound.port : 0;
    const info = await client.server.getServerInfo({}, { timeoutMs: 10_000 });
    console.log(`server ${info.version} on Linux ${info.kernelRelease}, Landlock ABI ${info.landlockAbi}`);
    const code = await runDecided(client, port);
    await showErrors(client);
    return code;
  } finally {
    greeter.close();
    client.close();
  }
}

/** @typedef {import("sandgate/client").SandgateClient} Client */

/**
 * @param {Client} client
 * @param {number} port
 */
async function runDecided(client, port) {
  const sandboxId = `node-${randomUUID()}`;
  // The decider comes first: a call that is held while no decider is connected is refused.
  const decisions = client.decision.decide();
  await decisions.send({
    message: {
      case: "open",
      value: {
        decider: "node-example",
        selector: { sandboxIds: [sandboxId] },
        window: 16,
        outcomes: OutcomeReporting.FAILURES,
      },
    },
  });
  /** @type {Promise<void>} */
  let deciding = Promise.resolve();
  await new Promise((resolve, reject) => {
    deciding = decide(decisions, () => resolve(undefined));
    deciding.catch(reject);
  });

  try {
    const { warnings } = await client.sandbox.spawn({
      requestId: randomUUID(),
      sandboxId,
      spec: {
        displayName: "node example",
        // Nothing may be reached as it is; a verdict may allow what is grantable.
        network: { grantable: [{ transport: Transport.TCP, host: "127.0.0.0/8" }] },
        holds: { triggers: [{ syscalls: ["connect"] }] },
      },
      process: { argv: ["bash", "-c", guest, "guest", allowedHost, refusedHost, String(port)] },
    });
    for (const { message } of warnings) console.log(`warning: ${message}`);
    return await follow(client, sandboxId);
  } finally {
    await client.sandbox.deleteSandbox({ requestId: randomUUID(), sandboxId });
    decisions.end();
    await deciding;
  }
}

/** @typedef {import("sandgate/client").HeldCall} HeldCall */

/**
 * Answers each held call until the stream ends.
 *
 * @param {ReturnType<Client["decision"]["decide"]>} decisions
 * @param {(value?: unknown) => void} onOpened
 */
async function decide(decisions, onOpened) {
  for await (const { message } of decisions.messages) {
    switch (message.case) {
      case "opened":
        onOpened();
        break;
      case "calls":
        await decisions.send({ message: { case: "verdicts", value: { verdicts: message.value.calls.map(judge) } } });
        break;
      case "outcomes":
        for (const { holdId, problem } of message.value.outcomes) {
          console.log(`verdict for ${holdId} was not applied: ${problem?.message}`);
        }
        break;
      case "problem":
        console.log(`problem: ${message.value.message}`);
        break;
    }
  }
}

/** @param {HeldCall} call */
function judge({ holdId, syscall, task, detail }) {
  const address = detail.case === "network" ? detail.value.address?.address : undefined;
  const host = address?.case === "ip" ? address.value.join(".") : "no address";
  const allowed = host === allowedHost;
  console.log(`held: ${task?.command?.text} wants ${syscall} to ${host}: ${allowed ? "allow" : "deny"}`);
  return allowed
    ? { holdId, action: /** @type {const} */ ({ case: "allow", value: {} }), reason: "the host is on our list" }
    : { holdId, action: /** @type {const} */ ({ case: "deny", value: {} }) };
}

/**
 * Prints what the program writes, from its first byte, and returns its exit code.
 *
 * @param {Client} client
 * @param {string} sandboxId
 */
async function follow(client, sandboxId) {
  const attachment = client.stdio.attach();
  const offsets = { [StdioStream.STDOUT]: 0n, [StdioStream.STDERR]: 0n };
  await attachment.send({ message: { case: "open", value: { sandboxId, offsets } } });
  /** @type {Record<number, string>} */
  const tails = {};
  const decoder = new TextDecoder();
  for await (const { message } of attachment.messages) {
    if (message.case === "output") {
      const { stream, data } = message.value;
      const lines = `${tails[stream] ?? ""}${decoder.decode(data)}`.split("\n");
      tails[stream] = lines.pop() ?? "";
      for (const line of lines) console.log(`${stream === StdioStream.STDERR ? "stderr" : "stdout"}: ${line}`);
      // Bytes read make room for as many more.
      await attachment.send({ message: { case: "credit", value: { bytes: data.length } } });
    } else if (message.case === "exit") {
      const { result } = message.value;
      console.log(result.case === "signal" ? `killed by signal ${result.value}` : `exit code ${result.value}`);
      return result.case === "code" ? result.value : 1;
    }
  }
  throw new Error("the attachment ended before the program did");
}

/**
 * What wrong requests get: a gRPC status with the reason and the field, for programs to read.
 *
 * @param {Client} client
 */
async function showErrors({ sandbox }) {
  const spawn = (/** @type {string[]} */ argv, /** @type {string[]} */ readable = []) =>
    sandbox.spawn({ requestId: randomUUID(), spec: { filesystem: { readable } }, process: { argv } });
  const wrong = {
    "spawn without a program": () => spawn([]),
    "spawn with a relative path": () => spawn(["true"], ["data"]),
    "spawn of a missing program": () => spawn(["/usr/bin/no-such-program"]),
    "look up a sandbox that is not there": () => sandbox.getSandbox({ sandboxId: "not-there" }),
  };
  for (const [what, call] of Object.entries(wrong)) {
    try {
      await call();
      console.log(`${what}: accepted`);
    } catch (error) {
      console.log(`${what}: ${describe(error)}`);
    }
  }
}

/** @param {unknown} error */
function describe(error) {
  if (!(error instanceof RemoteError)) return String(error);
  const { code, reason, field, metadata } = error;
  return `${code} reason=${reason} field=${field}${metadata.stage === undefined ? "" : ` stage=${metadata.stage}`}`;
}

const [address] = process.argv.slice(2);
if (address === undefined) {
  console.error("usage: node main.js ADDRESS, such as unix:/run/sandgate/sandgate.sock or 127.0.0.1:7443");
  process.exitCode = 2;
} else {
  process.exitCode = await main(address);
}
