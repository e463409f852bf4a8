// SPDX-License-Identifier: Apache-2.0
/* Other doors into the kernel, and new rights. */
#include "attack.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* getpid() by its x32 number. */
static long x32(char **arguments)
{
	(void)arguments;
	return syscall(0x40000000 | SYS_getpid);
}

/* getpid() as a 32-bit program calls it. */
static long int80(char **arguments)
{
	(void)arguments;
#ifdef __x86_64__
	long result = 20;

	__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
	return result < 0 ? fail((int)-result) : 0;
#else
	return fail(ENOSYS);
#endif
}

/*
 * A call by its number with arguments that no call can use, so that it changes nothing: any errno but those of a filter
 * or of missing rights means that the kernel looked at them.
 */
static long reach(char **arguments)
{
	long result = syscall(strtol(arguments[0], NULL, 0), -1L, -1L, -1L, -1L, -1L, -1L);

	return result < 0 && errno != ENOSYS && errno != EPERM && errno != EACCES ? 0 : result;
}

/* Likewise with a first argument that selects what is done, and others that are no pointers. */
static long reach_with(char **arguments)
{
	long result = syscall(strtol(arguments[0], NULL, 0), strtol(arguments[1], NULL, 0), -1L, -1L, -1L, -1L, -1L);

	return result < 0 && errno != ENOSYS && errno != EPERM && errno != EACCES ? 0 : result;
}

static long unshare_flag(char **arguments)
{
	return unshare((int)strtoul(arguments[0], NULL, 0));
}

static long finish_child(long pid)
{
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, __WALL);
	return pid;
}

static long clone_flag(char **arguments)
{
	return finish_child(syscall(SYS_clone, strtoul(arguments[0], NULL, 0) | SIGCHLD, 0, 0, 0, 0));
}

/* The flag is where the kernel looks, and something else above it. */
static long clone_high_bits(char **arguments)
{
	return finish_child(syscall(SYS_clone, strtoul(arguments[0], NULL, 0) | SIGCHLD | (1ul << 40), 0, 0, 0, 0));
}

/* Flags in memory, which a filter cannot see. */
static long clone3_flag(char **arguments)
{
	struct clone_args how = { .flags = strtoul(arguments[0], NULL, 0), .exit_signal = SIGCHLD };

	return finish_child(syscall(435 /* clone3 */, &how, sizeof(how)));
}

static long enter_namespace(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);

	return fd < 0 ? syscall(SYS_setns, -1, 0) : setns(fd, 0);
}

static long mount_tmpfs(char **arguments)
{
	if (mount("none", arguments[0], "tmpfs", 0, NULL) < 0)
		return -1;
	umount2(arguments[0], MNT_DETACH);
	return 0;
}

static long bind_mount(char **arguments)
{
	if (mount(arguments[0], arguments[1], NULL, MS_BIND, NULL) < 0)
		return -1;
	umount2(arguments[1], MNT_DETACH);
	return 0;
}

static long new_mount(char **arguments)
{
	(void)arguments;
	return syscall(430 /* fsopen */, "tmpfs", 0);
}

static long open_tree_of(char **arguments)
{
	return syscall(428 /* open_tree */, AT_FDCWD, arguments[0], 1 /* OPEN_TREE_CLONE */);
}

static long change_root(char **arguments)
{
	return chroot(arguments[0]);
}

static long make_bpf_map(char **arguments)
{
	union bpf_attr attributes = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1,
	};

	(void)arguments;
	return syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes));
}

static long io_uring(char **arguments)
{
	struct io_uring_params parameters = { 0 };

	(void)arguments;
	return syscall(425 /* io_uring_setup */, 1, &parameters);
}

static long perf_event(char **arguments)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attributes), .config = PERF_COUNT_SW_CPU_CLOCK,
		.exclude_kernel = 1, .exclude_hv = 1,
	};

	(void)arguments;
	return syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
}

static long join_keyring(char **arguments)
{
	(void)arguments;
	return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1);
}

static long add_key(char **arguments)
{
	(void)arguments;
	return syscall(SYS_add_key, "user", "sandgate", "x", 1, KEY_SPEC_PROCESS_KEYRING);
}

static long userfaultfd(char **arguments)
{
	(void)arguments;
	return syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);
}

static long secret_memory(char **arguments)
{
	(void)arguments;
	return syscall(447 /* memfd_secret */, 0);
}

static long local_descriptors(char **arguments)
{
	char room[64];

	(void)arguments;
#ifdef SYS_modify_ldt
	return syscall(SYS_modify_ldt, 0, room, sizeof(room));
#else
	(void)room;
	return fail(ENOSYS);
#endif
}

static long fixed_addresses(char **arguments)
{
	(void)arguments;
	return personality(ADDR_NO_RANDOMIZE);
}

/* Its size, which is no secret: but whoever may ask may read it too. */
static long kernel_log(char **arguments)
{
	(void)arguments;
	return syscall(SYS_syslog, 10, NULL, 0);
}

/* The time zone that the kernel has already. */
static long set_clock(char **arguments)
{
	struct timezone zone = { 0 };

	(void)arguments;
	return syscall(SYS_settimeofday, NULL, &zone);
}

static long message_queue(char **arguments)
{
	long id = syscall(SYS_msgget, 0 /* IPC_PRIVATE */, 0600);

	(void)arguments;
	if (id >= 0)
		syscall(SYS_msgctl, id, 0 /* IPC_RMID */, NULL);
	return id;
}

static long shared_segment(char **arguments)
{
	long id = syscall(SYS_shmget, 0 /* IPC_PRIVATE */, 4096, 0600);

	(void)arguments;
	if (id >= 0)
		syscall(SYS_shmctl, id, 0 /* IPC_RMID */, NULL);
	return id;
}

/* A terminal of its own where it may have one, else whatever standard input is: a filter looks at the request first. */
static int some_terminal(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	int terminal;

	setsid();
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		return 0;
	terminal = open(ptsname(master), O_RDWR);
	return terminal < 0 ? 0 : terminal;
}

static long tiocsti(char **arguments)
{
	(void)arguments;
	return ioctl(some_terminal(), TIOCSTI, "x");
}

/* The kernel looks at the low 32 bits alone. */
static long tiocsti_high_bits(char **arguments)
{
	(void)arguments;
	return syscall(SYS_ioctl, some_terminal(), TIOCSTI | (1ul << 32), "x");
}

static long line_discipline(char **arguments)
{
	int discipline = 0;

	(void)arguments;
	return ioctl(some_terminal(), TIOCSETD, &discipline);
}

/* A filter with a listener of its own, whose answers would come before those of the sandbox's. */
static long own_listener(char **arguments)
{
	struct sock_filter code[] = { { 0x06, 0, 0, SECCOMP_RET_ALLOW } };
	struct sock_fprog program = { 1, code };

	(void)arguments;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static long leave_no_new_privs(char **arguments)
{
	(void)arguments;
	return prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? 0 : fail(EINVAL);
}

static long raise_file_limit(char **arguments)
{
	struct rlimit limit;

	(void)arguments;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -1;
	/* From below: not even root may go above the system's own limit. */
	limit.rlim_cur = --limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -1;
	limit.rlim_max++;
	return setrlimit(RLIMIT_NOFILE, &limit);
}

static long have_capability(char **arguments)
{
	uint32_t header[2] = { 0x20080522, 0 };
	uint32_t data[6] = { 0 };

	(void)arguments;
	if (syscall(SYS_capget, header, data) < 0)
		return -1;
	return data[0] | data[1] | data[3] | data[4] ? 0 : fail(EPERM);
}

static long become_root(char **arguments)
{
	(void)arguments;
	return setuid(0);
}

static long other_user(char **arguments)
{
	(void)arguments;
	return setuid(12345);
}

static long large_pipe(char **arguments)
{
	int fds[2];

	(void)arguments;
	return pipe(fds) < 0 ? -1 : fcntl(fds[0], F_SETPIPE_SZ, 1 << 20);
}

const struct attack kernel_attacks[] = {
	{ "x32", 0, x32 },
	{ "int80", 0, int80 },
	{ "reach", 1, reach },
	{ "reach-with", 2, reach_with },
	{ "unshare", 1, unshare_flag },
	{ "clone", 1, clone_flag },
	{ "clone-high-bits", 1, clone_high_bits },
	{ "clone3", 1, clone3_flag },
	{ "enter-namespace", 1, enter_namespace },
	{ "mount", 1, mount_tmpfs },
	{ "bind-mount", 2, bind_mount },
	{ "new-mount", 0, new_mount },
	{ "open-tree", 1, open_tree_of },
	{ "chroot", 1, change_root },
	{ "bpf", 0, make_bpf_map },
	{ "io-uring", 0, io_uring },
	{ "perf-event", 0, perf_event },
	{ "join-keyring", 0, join_keyring },
	{ "add-key", 0, add_key },
	{ "userfaultfd", 0, userfaultfd },
	{ "secret-memory", 0, secret_memory },
	{ "local-descriptors", 0, local_descriptors },
	{ "fixed-addresses", 0, fixed_addresses },
	{ "kernel-log", 0, kernel_log },
	{ "set-clock", 0, set_clock },
	{ "message-queue", 0, message_queue },
	{ "shared-segment", 0, shared_segment },
	{ "tiocsti", 0, tiocsti },
	{ "tiocsti-high-bits", 0, tiocsti_high_bits },
	{ "line-discipline", 0, line_discipline },
	{ "own-listener", 0, own_listener },
	{ "leave-no-new-privs", 0, leave_no_new_privs },
	{ "raise-file-limit", 0, raise_file_limit },
	{ "have-capability", 0, have_capability },
	{ "become-root", 0, become_root },
	{ "other-user", 0, other_user },
	{ "large-pipe", 0, large_pipe },
	{ 0 },
};
