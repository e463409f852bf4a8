/** Protections that a spec may let degrade or turn off, by the names that `policy.proto` documents. */
export const PROTECTIONS = [
  "landlock_fs",
  "landlock_net",
  "landlock_scope",
  "landlock_ioctl",
  "landlock_truncate",
  "landlock_refer",
  "seccomp_notify",
  "wait_killable",
  "pid_namespace",
  "user_namespace",
  "mount_namespace",
  "bounding_set",
  "pidfd_getfd",
  "exec_verify",
  "memory_limit",
  "process_limit",
  "cpu_limit",
] as const;

export type Protection = (typeof PROTECTIONS)[number];

export function isProtection(name: string): name is Protection {
  return (PROTECTIONS as readonly string[]).includes(name);
}
