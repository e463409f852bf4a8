// SPDX-License-Identifier: Apache-2.0
/* Acts that print what the process was given. */
#include "act.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

static const char *kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFIFO:
		return "pipe";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "character-device";
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	default:
		return "other";
	}
}

/* A line for each open descriptor: its number, its kind, and what it is where /proc may be read. */
static int list_descriptors(int count, char **arguments)
{
	struct rlimit limit = { .rlim_cur = 1024 };
	struct stat status;

	(void)count;
	(void)arguments;
	getrlimit(RLIMIT_NOFILE, &limit);
	for (int fd = 0; fd < 65536 && (rlim_t)fd < limit.rlim_cur; fd++) {
		char link[64];
		char target[4096];
		ssize_t length;

		if (fcntl(fd, F_GETFD) < 0)
			continue;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, target, sizeof(target) - 1);
		target[length < 0 ? 0 : length] = '\0';
		printf("%d %s %s\n", fd, fstat(fd, &status) < 0 ? "unknown" : kind_of(status.st_mode), target);
	}
	return 0;
}

/* The five sets in hexadecimal, as in /proc/self/status but without reading it. */
static int print_capabilities(int count, char **arguments)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	uint64_t bounding = 0;
	uint64_t ambient = 0;

	(void)count;
	(void)arguments;
	if (syscall(SYS_capget, &header, data) < 0)
		return report(-1);
	for (unsigned int capability = 0; capability < 64; capability++) {
		if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1)
			bounding |= UINT64_C(1) << capability;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0) == 1)
			ambient |= UINT64_C(1) << capability;
	}
	printf("inheritable %08x%08x\n", data[1].inheritable, data[0].inheritable);
	printf("permitted %08x%08x\n", data[1].permitted, data[0].permitted);
	printf("effective %08x%08x\n", data[1].effective, data[0].effective);
	printf("bounding %016llx\n", (unsigned long long)bounding);
	printf("ambient %016llx\n", (unsigned long long)ambient);
	return 0;
}

/* Switches that a launch sets once for all. */
static int print_flags(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	printf("no_new_privs %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	printf("seccomp %d\n", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
	printf("dumpable %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	printf("securebits %d\n", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
	return 0;
}

static int print_session(int count, char **arguments)
{
	int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);

	(void)count;
	(void)arguments;
	printf("pid %d\nparent %d\ngroup %d\nsession %d\n", getpid(), getppid(), getpgrp(), getsid(0));
	printf("terminal %s\n", terminal < 0 ? "none" : isatty(terminal) ? "yes" : "no");
	printf("foreground %d\n", terminal < 0 ? 0 : tcgetpgrp(terminal));
	return 0;
}

static int print_ids(int count, char **arguments)
{
	uid_t user[3];
	gid_t group[3];

	(void)count;
	(void)arguments;
	if (getresuid(&user[0], &user[1], &user[2]) < 0 || getresgid(&group[0], &group[1], &group[2]) < 0)
		return report(-1);
	printf("user %u %u %u\n", user[0], user[1], user[2]);
	printf("group %u %u %u\n", group[0], group[1], group[2]);
	printf("groups %d\n", getgroups(0, NULL));
	return 0;
}

static int print_environment(int count, char **arguments)
{
	(void)count;
	(void)arguments;
	for (char **variable = environ; *variable; variable++)
		puts(*variable);
	return 0;
}

static int print_directory(int count, char **arguments)
{
	char path[4096];

	(void)count;
	(void)arguments;
	if (!getcwd(path, sizeof(path)))
		return report(-1);
	puts(path);
	return 0;
}

static int print_limits(int count, char **arguments)
{
	static const struct {
		const char *name;
		int resource;
	} limits[] = {
		{ "address_space", RLIMIT_AS }, { "processes", RLIMIT_NPROC }, { "open_files", RLIMIT_NOFILE },
		{ "cpu", RLIMIT_CPU },          { "core", RLIMIT_CORE },
	};

	(void)count;
	(void)arguments;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit limit;

		if (getrlimit(limits[i].resource, &limit) < 0)
			return report(-1);
		printf("%s %llu %llu\n", limits[i].name, (unsigned long long)limit.rlim_cur,
		       (unsigned long long)limit.rlim_max);
	}
	return 0;
}

/* Signals that are ignored or blocked at the start, by number; none should be. */
static int print_signals(int count, char **arguments)
{
	sigset_t blocked;

	(void)count;
	(void)arguments;
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (int number = 1; number < 65; number++) {
		struct sigaction action;

		if (sigismember(&blocked, number) == 1)
			printf("blocked %d\n", number);
		if (sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			printf("ignored %d\n", number);
	}
	return 0;
}

/* So many bytes on stdout: the lower-case letters over and over. */
static int flood_stdout(int count, char **arguments)
{
	char buffer[26 * 1024];
	long long left = atoll(arguments[0]);

	(void)count;
	for (size_t i = 0; i < sizeof(buffer); i++)
		buffer[i] = (char)('a' + i % 26);
	while (left > 0) {
		/* Every write but the last begins with an 'a', however short the one before was. */
		size_t wanted = left < (long long)sizeof(buffer) ? (size_t)left : sizeof(buffer);
		size_t sent = 0;

		while (sent < wanted) {
			ssize_t written = write(1, buffer + sent, wanted - sent);

			if (written < 0)
				return 1;
			sent += (size_t)written;
		}
		left -= (long long)wanted;
	}
	return 0;
}

const struct act inspect_acts[] = {
	{ "fds", 0, list_descriptors },
	{ "caps", 0, print_capabilities },
	{ "nnp", 0, print_flags },
	{ "session", 0, print_session },
	{ "ids", 0, print_ids },
	{ "env", 0, print_environment },
	{ "cwd", 0, print_directory },
	{ "limits", 0, print_limits },
	{ "signals", 0, print_signals },
	{ "flood-stdout", 1, flood_stdout },
	{ 0 },
};
