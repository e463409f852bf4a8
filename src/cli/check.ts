import { toJson } from "@bufbuild/protobuf";
import { type GetServerInfoResponse, GetServerInfoResponseSchema } from "../client/client.js";
import { connectOrEmbed, withConnection } from "./connection.js";
import { writeJsonLine } from "./output.js";
import { type Style, styleFor } from "./style.js";

export interface CheckOptions {
  readonly address?: string | undefined;
  readonly json?: boolean;
}

/** Prints what the service's host offers. Asks a running service where one is named, else looks for itself. */
export async function check(options: CheckOptions): Promise<void> {
  await withConnection(connectOrEmbed(options.address), async ({ client }) => {
    const info = await client.server.getServerInfo({}, { timeoutMs: 10_000 });
    if (options.json === true) {
      const json = toJson(GetServerInfoResponseSchema, info, { alwaysEmitImplicit: true });
      await writeJsonLine(process.stdout, json);
    } else process.stdout.write(describeHost(info, styleFor(process.stdout, process.env)));
  });
}

/** A line for each feature, and a line below each missing one that something can be done about. */
export function describeHost(info: GetServerInfoResponse, style: Style): string {
  const width = Math.max(0, ...info.host.map(({ name }) => name.length));
  const lines = [style.bold(`sandgate ${info.version} on Linux ${info.kernelRelease}`)];
  for (const { name, available, detail, remedy } of info.host) {
    const mark = available ? style.green("yes") : style.red("no ");
    lines.push(`${mark}  ${name.padEnd(width)}  ${detail}`.trimEnd());
    if (!available && remedy !== "") lines.push(`     ${" ".repeat(width)}  ${style.yellow(`→ ${remedy}`)}`);
  }
  const missing = info.host.filter(({ available }) => !available).length;
  lines.push(
    missing === 0
      ? "Everything is there."
      : `${missing} of ${info.host.length} are missing; a spawn that needs one is refused.`,
  );
  return `${lines.join("\n")}\n`;
}
