#!/usr/bin/env node
import { Command, CommanderError, Option } from "commander";
import { EXIT_OWN_FAILURE, Exit, UsageError } from "./failure.js";

// Each action's module is loaded when it runs, so that `--help` and a mistyped option answer at once.

const collect = (value: string, before: readonly string[] | undefined): readonly string[] => [...(before ?? []), value];

function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  $ ${line}\n`).join("")}`;
}

function buildProgram(): Command {
  const program = new Command("sandgate")
    .description("Runs programs confined, and asks you for what the policy does not settle.")
    .addOption(addressOption())
    .enablePositionalOptions()
    .showHelpAfterError("(add --help for what can be written)")
    .exitOverride()
    .addHelpText(
      "after",
      examples(
        "sandgate run -- echo hello",
        "sandgate run --ask --read . -- python3 script.py",
        "sandgate serve",
        "sandgate check",
      ),
    );

  policyOptions(processOptions(program.command("run")))
    .description(
      "Run a program in a sandbox of its own. Without --address the service is embedded: it lives in this process and ends with it.",
    )
    .addOption(addressOption("use the service at this address instead of an embedded one"))
    .option("--ask", "ask here for each execve, connect and write-open that nothing settles")
    .option(
      "--answers <file>",
      'take the answers of --ask from a file, one a line: allow, remember, deny, kill ("-" is standard input)',
    )
    .option(
      "--hold <duration>",
      "hold what --ask asks about for this time, until somebody answers from elsewhere, as with sandgate approve",
    )
    .option("--timeout <duration>", "end the sandbox after this time, with exit status 124")
    .option("--spec <file>", "start from a SandboxSpec in TOML or JSON")
    .option("-p, --profile <name>", "start from a profile that was saved under this name")
    .option("--detach", "leave it running on the service and print its id (needs --address)")
    .option(
      "--explain",
      "before running, say on standard error which mechanism enforces what and which calls are notified",
    )
    .option("--json", "at the end, write one JSON object with exit, usage and sandbox id to standard error")
    .argument("<program...>", "program and arguments, after --")
    .passThroughOptions()
    .action(async (argv: string[], options, command: Command) => {
      const { run } = await import("./run.js");
      await run(argv, { ...options, address: addressOf(command) });
    })
    .addHelpText(
      "after",
      `
The exit status is the program's own; 128 and the number for one that a signal ended; 124 after --timeout;
125 for sandgate's own errors, 126 for a program that cannot be executed, 127 for one that is not there.
${examples(
  "sandgate run --read ./data --write ./out -- ./convert data/in.csv out/",
  "sandgate run --net-allow tcp://127.0.0.1:5432 --timeout 30s -- ./report",
  "sandgate run --ask -- sh -c 'echo hi > /tmp/x'",
  "sandgate run --spec policy.toml -- make test",
)}`,
    );

  processOptions(program.command("exec"))
    .description("Start one more process inside a running sandbox, under the same policy.")
    .addOption(addressOption())
    .argument("<id>", "the sandbox")
    .argument("<program...>", "program and arguments, after --")
    .passThroughOptions()
    .action(async (id: string, argv: string[], options, command: Command) => {
      const { exec } = await import("./exec.js");
      await exec(id, argv, { ...options, address: addressOf(command) });
    })
    .addHelpText("after", examples("sandgate exec 4f1c -- ps aux"));

  program
    .command("attach")
    .description("Connect to the streams of a running process. Ending the attachment leaves the process running.")
    .addOption(addressOption())
    .argument("<id>", "the sandbox")
    .option("--process <id>", "a process started by exec, instead of the main one")
    .option("--no-stdin", "only watch the output")
    .action(async (id: string, options, command: Command) => {
      const { attach } = await import("./exec.js");
      await attach(id, { ...options, address: addressOf(command) });
    })
    .addHelpText("after", examples("sandgate attach 4f1c", "sandgate attach --no-stdin 4f1c"));

  program
    .command("serve")
    .description("Run the service until SIGTERM. Logs JSON lines to standard error; prints one line when it is ready.")
    .option("--listen <address>", "unix:/path or tcp:127.0.0.1:port; may be repeated", collect)
    .option("--token-file <file>", "callers over TCP must send the token in this file's first line")
    .option("--anonymous", "whoever reaches a TCP port may do everything")
    .option("--events-file <file>", "write every event to this file too, one JSON object a line")
    .option("--events-size <size>", "put that file aside when it has this size, such as 64MiB, which it is by default")
    .option("--events-keep <number>", "files put aside that are kept; 4 by default")
    .option("--metrics <address>", "serve figures for Prometheus over HTTP at this address, such as 127.0.0.1:9464")
    .option(
      "--config <file>",
      "settings in TOML: listen, token_file, anonymous, remote, uids, reflection, max_sandboxes, …",
    )
    .action(async (options) => {
      const { serve } = await import("./serve.js");
      await serve(options);
    })
    .addHelpText("after", examples("sandgate serve", "sandgate serve --listen tcp:127.0.0.1:7443 --token-file token"));

  program
    .command("ps")
    .description("List sandboxes.")
    .addOption(addressOption())
    .option("-a, --all", "ended ones too, while the service remembers them")
    .option("--label <key=value>", "only with this label; may be repeated", collect)
    .option("--json", "one JSON object a line")
    .action(async (options, command: Command) => {
      const { ps } = await import("./sandboxes.js");
      await ps({ ...options, address: addressOf(command) });
    })
    .addHelpText("after", examples("sandgate ps", "sandgate ps --json | jq -r .sandboxId"));

  program
    .command("inspect")
    .description("Show a sandbox: its policy, processes, protections, and which mechanism enforces what.")
    .addOption(addressOption())
    .argument("<id>", "the sandbox")
    .option("--json", "as one JSON object")
    .action(async (id: string, options, command: Command) => {
      const { inspect } = await import("./sandboxes.js");
      await inspect(id, { ...options, address: addressOf(command) });
    })
    .addHelpText("after", examples("sandgate inspect 4f1c", "sandgate inspect --json 4f1c | jq .plan.mechanisms"));

  program
    .command("kill")
    .description(
      "End a sandbox: SIGTERM, then SIGKILL after the grace time. With --signal, send that and nothing else.",
    )
    .addOption(addressOption())
    .argument("<id>", "the sandbox")
    .option("-s, --signal <signal>", "name or number, to every process of the sandbox")
    .option("--grace <duration>", "time between SIGTERM and SIGKILL", "10s")
    .action(async (id: string, options, command: Command) => {
      const { kill } = await import("./sandboxes.js");
      await kill(id, { ...options, address: addressOf(command) });
    })
    .addHelpText(
      "after",
      examples("sandgate kill 4f1c", "sandgate kill --grace 0s 4f1c", "sandgate kill --signal USR1 4f1c"),
    );

  program
    .command("watch")
    .description("Show what happens, as it happens.")
    .addOption(addressOption())
    .option("--sandbox <id>", "only this sandbox; may be repeated", collect)
    .option("--label <key=value>", "only sandboxes with this label; may be repeated", collect)
    .option("--kind <kind>", "only this kind, such as call_settled; may be repeated", collect)
    .option("--exclude <kind>", "not this kind; may be repeated", collect)
    .option("--category <name>", "only calls of this category: file, network, process; may be repeated", collect)
    .option("--syscall <name>", "only this system call; may be repeated", collect)
    .option("--path <glob>", "only calls about such a path; may be repeated", collect)
    .option("--executable <glob>", "only calls made by such an executable; may be repeated", collect)
    .option("--refused", "only calls that were refused or killed for")
    .option("--source <source>", "only what this settled: decider, grant, rule, timeout …; may be repeated", collect)
    .option("--fields <paths>", "only these fields of an event, as in sequence,call_settled.call.file", collect)
    .option("--every <duration>", "fold equal verdicts of so long into one, with their number")
    .option("--since <cursor>", 'start after this EPOCH:SEQUENCE, "oldest", or with a "snapshot"')
    .option("--json", "one JSON object a line")
    .action(async (options, command: Command) => {
      const { watch } = await import("./watch.js");
      await watch({ ...options, address: addressOf(command) });
    })
    .addHelpText(
      "after",
      examples(
        "sandgate watch",
        "sandgate watch --refused --path '/etc/**' --every 1s",
        "sandgate watch --kind call_held --kind call_settled --json",
      ),
    );

  program
    .command("approve")
    .description("List the calls that wait for an answer; with their numbers, let them go on or refuse them.")
    .addOption(addressOption())
    .argument("[call...]", "numbers of calls, as listed")
    .option("--deny", "refuse them instead")
    .option("--kill", "kill everything in their sandboxes instead")
    .option("--remember", "also let equal calls of the sandbox go on from now on")
    .option("--follow", "ask here for each call as it comes, until interrupted")
    .option(
      "--answers <file>",
      'take the answers of --follow from a file, one a line, as run does ("-": standard input)',
    )
    .option("--sandbox <id>", "only calls of this sandbox; may be repeated", collect)
    .option("--json", "one JSON object a line")
    .action(async (calls: string[], options, command: Command) => {
      const { approve } = await import("./approve.js");
      await approve(calls, { ...options, address: addressOf(command) });
    })
    .addHelpText(
      "after",
      examples(
        "sandgate run --detach --hold 10m -- make deploy",
        "sandgate approve",
        "sandgate approve 17 18",
        "sandgate approve --deny 19",
        "sandgate approve --follow",
      ),
    );

  profileCommands(program.command("profile").description("Keep policies under names, for run --profile."));

  program
    .command("check")
    .description("Show what this host offers, feature by feature, and what to do about what is missing.")
    .addOption(addressOption("ask the service at this address instead of an embedded one"))
    .option("--json", "as one JSON object")
    .action(async (options, command: Command) => {
      const { check } = await import("./check.js");
      await check({ ...options, address: addressOf(command) });
    })
    .addHelpText(
      "after",
      examples("sandgate check", "sandgate check --json | jq '.host[] | select(.available | not)'"),
    );

  program
    .command("version")
    .description("Print the version.")
    .action(async () => {
      const { printVersion } = await import("./version.js");
      await printVersion();
    });

  return program;
}

function profileCommands(profile: Command): void {
  profile
    .command("list")
    .description("List the profiles that were saved.")
    .option("--json", "one JSON object a line")
    .action(async (options) => {
      const { listProfiles } = await import("./profile.js");
      await listProfiles(options);
    });

  profile
    .command("show")
    .description("Print a profile.")
    .argument("<name>", "the profile")
    .action(async (name: string) => {
      const { showProfile } = await import("./profile.js");
      await showProfile(name);
    });

  profile
    .command("check")
    .description("Say whether a profile or a file can be used on this host; a mistake is named with its line.")
    .addOption(addressOption("ask the service at this address instead of an embedded one"))
    .argument("<name>", "a profile, or a file in TOML or JSON")
    .option("--json", "as one JSON object")
    .action(async (name: string, options, command: Command) => {
      const { checkProfile } = await import("./profile.js");
      await checkProfile(name, { ...options, address: addressOf(command) });
    })
    .addHelpText("after", examples("sandgate profile check build", "sandgate profile check ./policy.toml"));

  profile
    .command("save")
    .description("Keep a SandboxSpec under a name.")
    .argument("<name>", "letters, digits, and . _ -")
    .argument("<file>", 'a file in TOML or JSON ("-" is standard input)')
    .option("--force", "replace the one that has this name")
    .action(async (name: string, file: string, options) => {
      const { saveProfile } = await import("./profile.js");
      await saveProfile(name, file, options);
    })
    .addHelpText("after", examples("sandgate profile save build policy.toml", "sandgate run -p build -- make"));
}

function addressOption(purpose = "the service: unix:/path or HOST:PORT (also SANDGATE_ADDRESS)"): Option {
  return new Option("--address <address>", purpose);
}

/** Given before or after the subcommand. */
function addressOf(command: Command): string | undefined {
  return command.optsWithGlobals<{ address?: string }>().address;
}

function processOptions(command: Command): Command {
  return command
    .option("--cwd <dir>", "current directory of the program")
    .option("--env <name=value>", "set a variable, or pass yours on by its NAME; may be repeated", collect)
    .option("--clear-env", "start from an empty environment instead of the minimal one")
    .option("--tty", "run it on a terminal (the default where standard input and output are terminals)")
    .option("--no-tty", "run it on pipes");
}

function policyOptions(command: Command): Command {
  return command
    .option("--read <path>", "let it read and execute below this path; may be repeated", collect)
    .option("--write <path>", "let it write below this path too; may be repeated", collect)
    .option("--exec <path>", "let it execute, and not read, programs below this path; may be repeated", collect)
    .option("--root <dir>", "give it this directory as its root; all other paths are then inside it")
    .option(
      "--map <inside:host[:ro]>",
      "show it what you have at HOST at INSIDE, to be written unless :ro; may be repeated",
      collect,
    )
    .option("--tmp", "give it an empty /tmp of its own, in memory")
    .option("--tmp-size <size>", "likewise, at most this much: 64M, 1GiB")
    .option("--proc", "give it a /proc of its own, which shows its processes alone")
    .option("--uid <number>", "run it as this user, or, where you may not, show you as this user to it")
    .option("--gid <number>", "and this group; the same number as --uid unless given")
    .option("--deny <path>", "refuse this path and what is below it although granted; may be repeated", collect)
    .option(
      "--net-allow <rule>",
      "let it reach [tcp://|udp://|icmp://|unix://]HOST[:PORTS]; HOST may be a CIDR block or *; may be repeated",
      collect,
    )
    .option("--net-deny <rule>", "refuse this destination although allowed; may be repeated", collect)
    .option(
      "--bind <ports>",
      "let it listen on [tcp://|udp://][ADDRESS:]PORTS, such as 8080 or 127.0.0.1:8000-8999; may be repeated",
      collect,
    )
    .option("--memory <size>", "memory of all its processes together, such as 512M or 2GiB; units are powers of 1024")
    .option("--processes <number>", "processes and threads at a time")
    .option("--open-files <number>", "open descriptors of each process")
    .option("--cpu <share>", "share of the processors: 50% or 0.5 is half of one, 2 is two")
    .option("--cpu-time <duration>", "CPU time of all its processes together, such as 30s")
    .option("--output <size>", "bytes that all its processes may write to their outputs together, such as 10M")
    .option("--disk <size>", "bytes written over its working directory")
    .option("--no-baseline", "do not grant what an ordinary program reads to start (/usr, /lib, parts of /etc, …)")
    .option("--name <text>", "a name for people")
    .option("--label <key=value>", "a label for selection; may be repeated", collect)
    .option("--checkpointable", "give it its own PID namespace, which a checkpoint needs")
    .option("--allow-degraded <protection>", "start although the host lacks this protection; may be repeated", collect);
}

async function main(argv: readonly string[]): Promise<number> {
  try {
    await buildProgram().parseAsync(argv);
    return 0;
  } catch (error) {
    if (error instanceof Exit) return error.status;
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_OWN_FAILURE;
    if (error instanceof UsageError) {
      process.stderr.write(`sandgate: ${error.message}\n`);
      return EXIT_OWN_FAILURE;
    }
    const { explainError } = await import("./explain.js");
    const { line, exitStatus } = explainError(error);
    process.stderr.write(`sandgate: ${line}\n`);
    return exitStatus;
  }
}

const status = await main(process.argv);
// Ends at once: an embedded service or a terminal would otherwise keep the event loop alive.
process.exit(status);
