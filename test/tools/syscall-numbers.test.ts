import assert from "node:assert/strict";
import { numbersModule, parseTable } from "../../tools/syscall-numbers.js";

const X86 = `# number abi name entry
0\tcommon\tread\t\t\tsys_read
13\t64\trt_sigaction\t\tsys_rt_sigaction
134\t64\tuselib
462 \tcommon  mseal\t\t\tsys_mseal # with blanks
512\tx32\trt_sigaction\t\tcompat_sys_rt_sigaction
`;
const GENERIC = `4\ttime32\tio_getevents\t\tsys_io_getevents_time32
4\t64\tio_getevents\t\tsys_io_getevents
38\trenameat renameat\t\t\tsys_renameat
79\tstat64\tfstatat64\t\tsys_fstatat64
244\tcsky\tset_thread_area\t\tsys_set_thread_area
447\tmemfd_secret\tmemfd_secret\tsys_memfd_secret
`;

describe("the generator of system-call numbers", () => {
  it("takes the calls of the wanted ABIs from a table of the kernel's, with and without entry points", () => {
    assert.deepEqual(parseTable(X86, ["common", "64"]), [
      ["read", 0],
      ["rt_sigaction", 13],
      ["uselib", 134],
      ["mseal", 462],
    ]);
  });

  it("writes a module with both tables and the release they are from", () => {
    const text = numbersModule("7.1", X86, GENERIC);
    assert.match(text, /NUMBERS_RELEASE = "7.1"/);
    assert.match(text, / {2}read: 0, rt_sigaction: 13, uselib: 134, mseal: 462,\n/);
    assert.match(text, / {2}io_getevents: 4, renameat: 38, nfsservctl: 42, memfd_secret: 447,\n/);
  });
});
