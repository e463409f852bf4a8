import { spawn } from "node:child_process";

/** One figure: ours beside the bare one of the same run. */
export interface Row {
  readonly figure: string;
  readonly unit: string;
  /** The same thing without Sandgate. */
  readonly bare: number;
  readonly ours: number;
  /** What ours / bare should stay below (for rates: above); undefined where the figure is absolute. */
  readonly limit?: number;
  /** Rates: more is better. */
  readonly higherIsBetter?: boolean;
  readonly note?: string;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

/** Keeps every core busy until disposed. */
export function busyLoad(cores: number): Disposable {
  const children = Array.from({ length: cores }, () =>
    spawn(process.execPath, ["-e", "for(;;);"], { stdio: "ignore" }),
  );
  return {
    [Symbol.dispose]() {
      for (const child of children) child.kill("SIGKILL");
    },
  };
}

/** One row as a line of a Markdown table. */
export function formatRow(row: Row): string {
  const ratio = row.bare === 0 ? "" : (row.ours / row.bare).toFixed(2);
  const limit = row.limit === undefined ? "" : `${row.higherIsBetter === true ? "≥" : "≤"} ${row.limit}`;
  const held =
    row.limit === undefined || ratio === ""
      ? ""
      : (row.higherIsBetter === true ? Number(ratio) >= row.limit : Number(ratio) <= row.limit)
        ? "yes"
        : "**no**";
  const number = (value: number): string => (value === 0 ? "" : value >= 100 ? value.toFixed(0) : value.toFixed(2));
  return `| ${row.figure} | ${row.unit} | ${number(row.bare)} | ${number(row.ours)} | ${ratio} | ${limit} | ${held} | ${row.note ?? ""} |`;
}

export const TABLE_HEAD =
  "| figure | unit | bare | sandgate | ratio | must be | holds | note |\n|---|---|---|---|---|---|---|---|";
