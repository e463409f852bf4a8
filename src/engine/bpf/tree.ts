/**
 * A filter as a decision tree: pure data, judged by `assemble.ts` into classic BPF. Only the number is looked at
 * first; what a tree tests beyond it are argument registers.
 */

/** Return values of a filter, seccomp(2). */
export const ACTION = {
  killProcess: 0x80000000,
  notify: 0x7fc00000,
  allow: 0x7fff0000,
} as const;

export type Tree =
  | { readonly kind: "return"; readonly action: number }
  | {
      readonly kind: "test";
      /** 0 to 5. */
      readonly arg: number;
      readonly word: "low" | "high";
      /** Applied to the word before it is compared; 0xffffffff for all of it. */
      readonly mask: number;
      readonly is: "equal" | "atLeast" | "anyBit";
      readonly value: number;
      readonly yes: Tree;
      readonly no: Tree;
    };

export const ALLOW: Tree = { kind: "return", action: ACTION.allow };
export const NOTIFY: Tree = { kind: "return", action: ACTION.notify };

/** `errno` is what errno(3) holds: positive. */
export function refuse(errno: number): Tree {
  return { kind: "return", action: (0x00050000 | errno) >>> 0 };
}

interface Options {
  readonly word?: "low" | "high";
  readonly mask?: number;
}

export function whenEqual(arg: number, value: number, yes: Tree, no: Tree, options: Options = {}): Tree {
  return test(arg, "equal", value, yes, no, options);
}

export function whenAtLeast(arg: number, value: number, yes: Tree, no: Tree, options: Options = {}): Tree {
  return test(arg, "atLeast", value, yes, no, options);
}

export function whenAnyBit(arg: number, bits: number, yes: Tree, no: Tree): Tree {
  return test(arg, "anyBit", bits, yes, no, {});
}

/** `yes` when the argument is one of the values. */
export function whenOneOf(arg: number, values: readonly number[], yes: Tree, no: Tree, options: Options = {}): Tree {
  return values.reduceRight<Tree>((rest, value) => whenEqual(arg, value, yes, rest, options), no);
}

/** `yes` when all 64 bits of the argument are zero, as in a null pointer. */
export function whenZero(arg: number, yes: Tree, no: Tree): Tree {
  return whenEqual(arg, 0, whenEqual(arg, 0, yes, no, { word: "high" }), no);
}

function test(
  arg: number,
  is: "equal" | "atLeast" | "anyBit",
  value: number,
  yes: Tree,
  no: Tree,
  options: Options,
): Tree {
  return {
    kind: "test",
    arg,
    word: options.word ?? "low",
    mask: (options.mask ?? 0xffffffff) >>> 0,
    is,
    value: value >>> 0,
    yes,
    no,
  };
}

/** The tree with every `allow` replaced. */
export function replaceAllow(tree: Tree, by: Tree): Tree {
  if (tree.kind === "return") return tree.action === ACTION.allow ? by : tree;
  return { ...tree, yes: replaceAllow(tree.yes, by), no: replaceAllow(tree.no, by) };
}

/** Whether the tree can return the action. */
export function canReturn(tree: Tree, action: number): boolean {
  if (tree.kind === "return") return tree.action === action;
  return canReturn(tree.yes, action) || canReturn(tree.no, action);
}
