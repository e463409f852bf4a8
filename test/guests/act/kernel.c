// SPDX-License-Identifier: Apache-2.0
/* Acts that no sandboxed program has any use for: parts of the kernel, and other ways to call it. */
#include "act.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/tiocl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

static int mount_tmpfs(int count, char **arguments)
{
	(void)count;
	return report(mount("none", arguments[0], "tmpfs", 0, NULL));
}

/* Namespaces by the name of their file in /proc/self/ns. */
static int unshare_namespace(int count, char **arguments)
{
	static const struct {
		const char *name;
		int flag;
	} kinds[] = {
		{ "user", CLONE_NEWUSER }, { "mnt", CLONE_NEWNS },   { "pid", CLONE_NEWPID },
		{ "net", CLONE_NEWNET },   { "ipc", CLONE_NEWIPC },  { "uts", CLONE_NEWUTS },
	};
	const char *wanted = count > 0 ? arguments[0] : "user";

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, wanted) == 0)
			return report(unshare(kinds[i].flag));
	}
	errno = EINVAL;
	return report(-1);
}

/* getpid() by its x32 number. */
static int x32_getpid(int count, char **arguments)
{
	(void)count;
	(void)arguments;
#ifdef __x86_64__
	return report(syscall(0x40000000 | SYS_getpid));
#else
	return report_word("no-x32");
#endif
}

/* getpid() as a 32-bit program calls it. */
static int int80_getpid(int count, char **arguments)
{
	(void)count;
	(void)arguments;
#ifdef __x86_64__
	long result = 20;

	__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
	errno = result < 0 ? (int)-result : 0;
	return report(result < 0 ? -1 : 0);
#else
	return report_word("no-int80");
#endif
}

/* Types a character into its own terminal, for whoever reads it next. */
static int tiocsti(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	return report(ioctl(0, TIOCSTI, "x"));
}

/* What the kernel reads of a request is its low half. */
static int tiocsti_high(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	return report(syscall(SYS_ioctl, 0L, TIOCSTI | 1L << 32, "x"));
}

/* Asks a device file, opened for reading, what only a device answers. */
static int ask_device(int count, char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_NOCTTY);
	unsigned int number;

	(void)count;
	return report(fd < 0 ? fd : ioctl(fd, TIOCGPTN, &number));
}

static int tioclinux(int count, char **arguments)
{
	char request[] = { TIOCL_GETSHIFTSTATE };

	(void)count;
	(void)arguments;
	return report(ioctl(0, TIOCLINUX, request));
}

static int make_bpf_map(int count, char **arguments)
{
	union bpf_attr attributes = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1,
	};

	(void)count;
	(void)arguments;
	return report(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes)));
}

static int make_io_uring(int count, char **arguments)
{
	struct io_uring_params parameters = { 0 };

	(void)count;
	(void)arguments;
	return report(syscall(SYS_io_uring_setup, 1, &parameters));
}

static int open_perf_event(int count, char **arguments)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attributes), .config = PERF_COUNT_SW_CPU_CLOCK,
		.exclude_kernel = 1, .exclude_hv = 1,
	};

	(void)count;
	(void)arguments;
	return report(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
}

/* The session keyring, which processes of other sandboxes may share. */
static int read_keyring(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	return report(syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3 /* session */, 1));
}

static int make_userfaultfd(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	return report(syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */));
}

static int change_root(int count, char **arguments)
{
	(void)count;
	return report(chroot(arguments[0]));
}

/* A System V message queue of its own. */
static int make_message_queue(int count, char **arguments)
{
	long id = syscall(SYS_msgget, 0 /* IPC_PRIVATE */, 0600);

	(void)count;
	(void)arguments;
	if (id >= 0)
		syscall(SYS_msgctl, id, 0 /* IPC_RMID */, NULL);
	return report(id);
}

/* A call by its number, for what has no act of its own; its arguments are zero. */
static int call_number(int count, char **arguments)
{
	(void)count;
	return report(syscall(strtol(arguments[0], NULL, 0), 0, 0, 0, 0, 0, 0));
}

const struct act kernel_acts[] = {
	{ "mount", 1, mount_tmpfs },
	{ "unshare", 0, unshare_namespace },
	{ "x32-getpid", 0, x32_getpid },
	{ "int80-getpid", 0, int80_getpid },
	{ "tiocsti", 0, tiocsti },
	{ "tiocsti-high", 0, tiocsti_high },
	{ "ask-device", 1, ask_device },
	{ "tioclinux", 0, tioclinux },
	{ "bpf", 0, make_bpf_map },
	{ "io-uring", 0, make_io_uring },
	{ "perf-event", 0, open_perf_event },
	{ "keyring", 0, read_keyring },
	{ "userfaultfd", 0, make_userfaultfd },
	{ "chroot", 1, change_root },
	{ "message-queue", 0, make_message_queue },
	{ "call", 1, call_number },
	{ 0 },
};
