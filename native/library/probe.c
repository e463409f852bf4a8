// SPDX-License-Identifier: Apache-2.0
/* What this host offers. Nothing here changes the process that asks. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kernel.h"

#define LANDLOCK_VERSION_FLAG 1u

/* Landlock's ABI version, or -errno: ENOSYS not built in, EOPNOTSUPP not enabled at boot. */
int sg_probe_landlock(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_FLAG);

	return version < 0 ? -errno : (int)version;
}

/*
 * Whether seccomp(2) knows these filter flags. With a NULL program the kernel checks the
 * flags, then fails with EFAULT; an unknown flag is EINVAL. Returns 1, 0, or -errno.
 */
int sg_probe_filter_flags(uint32_t flags)
{
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, NULL);
	return errno == EFAULT ? 1 : errno == EINVAL ? 0 : -errno;
}

static int exit_at_once(void *unused)
{
	(void)unused;
	_exit(0);
}

/*
 * Runs act in a child that is born in new namespaces. It shares this memory for the moment it lives and touches
 * nothing of it but errno. Returns 0, or the negative errno of the clone or of its exit status.
 */
static int run_child(int (*act)(void *), uint32_t flags)
{
	size_t size = 65536;
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	pid_t pid;
	int error = 0, status = 0;

	if (stack == MAP_FAILED)
		return -errno;
	/* No exit signal: Node must not see a child it did not start. */
	pid = clone(act, stack + size, CLONE_VM | CLONE_VFORK | (int)flags, NULL);
	if (pid < 0)
		error = -errno;
	else
		while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
			;
	munmap(stack, size);
	return error < 0 ? error : -WEXITSTATUS(status);
}

/* Whether a child can be born in new namespaces (CLONE_NEW* flags). Returns 0 or -errno. */
int sg_probe_namespaces(uint32_t flags)
{
	return run_child(exit_at_once, flags);
}

static int make_mounts_private(void *unused)
{
	struct mount_attributes private = {.propagation = MS_PRIVATE};

	(void)unused;
	_exit(syscall(NR_mount_setattr, AT_FDCWD, "/", TREE_RECURSIVE, &private, sizeof(private)) < 0 ? errno : 0);
}

/*
 * Whether a child born in new namespaces, of these CLONE_NEW* flags, may change its mounts: a profile may let the
 * namespace be made and then refuse that. Returns 0 or -errno.
 */
int sg_probe_mounts(uint32_t flags)
{
	return run_child(make_mounts_private, flags);
}

/* Whether the effective capability set holds a capability. Returns 1, 0 or -errno. capabilities(7). */
int sg_probe_capability(uint32_t capability)
{
	struct {
		uint32_t version;
		int pid;
	} header = { 0x20080522, 0 };
	struct {
		uint32_t effective, permitted, inheritable;
	} sets[2];

	if (capability > 63)
		return -EINVAL;
	if (syscall(SYS_capget, &header, sets) < 0)
		return -errno;
	return (sets[capability / 32].effective >> (capability % 32)) & 1;
}

/* Whether pidfd_getfd(2) is permitted; container profiles may refuse it. Returns 0 or -errno. */
int sg_probe_pidfd_getfd(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int copy, error;

	if (pidfd < 0)
		return -errno;
	copy = (int)syscall(SYS_pidfd_getfd, pidfd, pidfd, 0);
	error = copy < 0 ? -errno : 0;
	if (copy >= 0)
		close(copy);
	close(pidfd);
	return error;
}

/* Whether another process's memory may be read by process_vm_readv(2). Returns 0 or -errno. */
int sg_probe_read_memory(void)
{
	char from = 1, to = 0;
	struct {
		void *base;
		size_t length;
	} local = { &to, 1 }, remote = { &from, 1 };

	return syscall(SYS_process_vm_readv, getpid(), &local, 1UL, &remote, 1UL, 0UL) < 0 ? -errno : 0;
}

static int wait_for_kill(void *unused)
{
	const uint64_t all = ~0ull;

	(void)unused;
	for (;;)
		syscall(SYS_rt_sigsuspend, &all, sizeof(all));
	return 0;
}

/*
 * Whether a descendant may be traced, by ptrace(2); container profiles may refuse it. Returns 0 or -errno.
 * The child shares this memory and touches nothing of it.
 */
int sg_probe_trace(void)
{
	size_t size = 65536;
	char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	pid_t pid;
	int error;

	if (stack == MAP_FAILED)
		return -errno;
	pid = clone(wait_for_kill, stack + size, CLONE_VM, NULL);
	error = pid < 0 ? -errno : 0;
	if (pid > 0) {
		if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
			error = -errno;
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
			;
	}
	munmap(stack, size);
	return error;
}
