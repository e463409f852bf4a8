// SPDX-License-Identifier: Apache-2.0
/* What the engine asks of a task whose call is held. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "engine.h"

#define EXECUTABLE_LIMIT 4096
#define COMMAND_LIMIT 16

/* Filled by sg_task_read; src/native/task.ts knows the layout by way of layout.c. */
struct sg_task {
	uint32_t tgid;
	uint32_t ppid;
	uint32_t umask;
	uint32_t threads;
	uint64_t start_ticks;
	uint32_t executable_length; /* 0 when it cannot be read */
	uint32_t command_length;
	char command[COMMAND_LIMIT];
	char executable[EXECUTABLE_LIMIT];
};

static ssize_t read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t count;

	if (fd < 0)
		return -errno;
	count = read(fd, buffer, size - 1);
	if (count < 0)
		count = -errno;
	else
		buffer[count] = 0;
	close(fd);
	return count;
}

static uint32_t status_field(const char *status, const char *name, int base)
{
	const char *line = strstr(status, name);

	return line ? (uint32_t)strtoul(line + strlen(name), NULL, base) : 0;
}

static uint64_t status_mask(const char *status, const char *name)
{
	const char *line = strstr(status, name);

	return line ? strtoull(line + strlen(name), NULL, 16) : 0;
}

/*
 * Describes the process of thread `tid`. The caller re-checks the notification afterwards
 * (pid reuse). Returns 0 or -errno.
 */
int sg_task_read(uint32_t tid, struct sg_task *ret_task)
{
	char path[64], text[4096];
	const char *end;
	ssize_t count;

	snprintf(path, sizeof(path), "/proc/%u/status", tid);
	count = read_file(path, text, sizeof(text));
	if (count < 0)
		return (int)count;
	ret_task->tgid = status_field(text, "\nTgid:", 10);
	ret_task->ppid = status_field(text, "\nPPid:", 10);
	ret_task->umask = status_field(text, "\nUmask:", 8);
	ret_task->threads = status_field(text, "\nThreads:", 10);

	snprintf(path, sizeof(path), "/proc/%u/stat", ret_task->tgid);
	count = read_file(path, text, sizeof(text));
	if (count < 0)
		return (int)count;
	/* The command may hold any bytes, so the fields are counted from its last parenthesis. proc(5), field 22. */
	end = strrchr(text, ')');
	if (!end)
		return -EIO;
	ret_task->command_length = 0;
	for (const char *start = strchr(text, '(') + 1; start < end && ret_task->command_length < COMMAND_LIMIT; start++)
		ret_task->command[ret_task->command_length++] = *start;
	for (int field = 2; field < 22 && end; field++)
		end = strchr(end + 1, ' ');
	ret_task->start_ticks = end ? strtoull(end + 1, NULL, 10) : 0;

	snprintf(path, sizeof(path), "/proc/%u/exe", ret_task->tgid);
	count = readlink(path, ret_task->executable, EXECUTABLE_LIMIT);
	ret_task->executable_length = count < 0 ? 0 : (uint32_t)count;
	return 0;
}

/*
 * Whether a signal waits for thread `tid` that would interrupt its call. What waits for the whole process is given to
 * its first thread, unless that blocks it. proc(5). Returns 1, 0, or -errno.
 */
int sg_task_has_signal(uint32_t tid)
{
	char path[64], text[4096];
	uint64_t pending;
	ssize_t count;

	snprintf(path, sizeof(path), "/proc/%u/status", tid);
	count = read_file(path, text, sizeof(text));
	if (count < 0)
		return (int)count;
	pending = status_mask(text, "\nSigPnd:");
	if (status_field(text, "\nTgid:", 10) == tid)
		pending |= status_mask(text, "\nShdPnd:");
	return (pending & ~status_mask(text, "\nSigBlk:")) != 0;
}

/* The last number of a line of /proc/<pid>/status: what the task itself sees, in the innermost of its namespaces. */
static uint32_t innermost_field(const char *status, const char *name)
{
	const char *line = strstr(status, name);
	const char *end = line ? strchr(line + 1, '\n') : NULL;

	while (end && end > line && end[-1] >= '0' && end[-1] <= '9')
		end--;
	return end ? (uint32_t)strtoul(end, NULL, 10) : 0;
}

/*
 * Fills thread id, process id, process group and session of a thread as it sees them itself. The caller re-checks the
 * notification afterwards (pid reuse). Returns 0 or -errno.
 */
int sg_task_identity(uint32_t tid, uint32_t *ret_identity)
{
	char path[64], text[4096];
	ssize_t count;

	snprintf(path, sizeof(path), "/proc/%u/status", tid);
	count = read_file(path, text, sizeof(text));
	if (count < 0)
		return (int)count;
	ret_identity[0] = innermost_field(text, "\nNSpid:");
	ret_identity[1] = innermost_field(text, "\nNStgid:");
	ret_identity[2] = innermost_field(text, "\nNSpgid:");
	ret_identity[3] = innermost_field(text, "\nNSsid:");
	return 0;
}

/* The parent of a process, or 0 when it is gone. */
uint32_t sg_task_parent(uint32_t pid)
{
	char path[64], text[4096];

	snprintf(path, sizeof(path), "/proc/%u/status", pid);
	return read_file(path, text, sizeof(text)) < 0 ? 0 : status_field(text, "\nPPid:", 10);
}

/*
 * A pidfd that becomes readable when the thread ends (since Linux 6.9; before, when its
 * process ends). Returns it or -errno; the caller owns it.
 */
int sg_task_open(uint32_t tid, uint32_t tgid)
{
	int fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);

	if (fd < 0 && errno == EINVAL)
		fd = (int)syscall(SYS_pidfd_open, tgid, 0);
	return fd < 0 ? -errno : fd;
}

/* Sends a signal by pidfd. Returns 0 or -errno. */
int sg_task_signal(int pidfd, int signal)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

/*
 * Signals the process group that `pid` is in. The group lies within its session, and a
 * sandbox's sessions hold nobody else. Returns 0 or -errno.
 */
int sg_task_signal_group(uint32_t pid, int signal)
{
	pid_t group = getpgid((pid_t)pid);

	if (group <= 1)
		return -ESRCH;
	return kill(-group, signal) < 0 ? -errno : 0;
}

/*
 * Duplicates a descriptor of the task behind `pidfd`: its table is the calling thread's,
 * which may differ from the leader's. Returns the duplicate or -errno. pidfd_getfd(2).
 */
int sg_task_take_fd(int pidfd, int fd)
{
	int copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	return copy < 0 ? -errno : copy;
}

/*
 * Opens, for path lookups only, a directory of the task: `fd` of its table, or its current
 * directory when `fd` is AT_FDCWD. Returns it or -errno; the caller owns it.
 */
int sg_task_directory(uint32_t tid, int fd)
{
	char path[64];
	int copy;

	if (fd == AT_FDCWD)
		snprintf(path, sizeof(path), "/proc/%u/cwd", tid);
	else
		snprintf(path, sizeof(path), "/proc/%u/fd/%d", tid, fd);
	copy = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return copy < 0 ? -errno : copy;
}

/*
 * Holds what a magic link below /proc/<tid> ("exe", "fd/3") leads to, giving no access to it. Returns a
 * descriptor or -errno; the caller owns it.
 */
int sg_task_hold(uint32_t tid, const char *name)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/%.64s", tid, name);
	fd = open(path, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Reads a symbolic link below /proc/<tid> ("cwd", "fd/3"). Returns its length or -errno. */
int sg_task_link(uint32_t tid, const char *name, char *buffer, uint32_t size)
{
	char path[96];
	ssize_t count;

	snprintf(path, sizeof(path), "/proc/%u/%.64s", tid, name);
	count = readlink(path, buffer, size);
	return count < 0 ? -errno : (int)count;
}

int sg_socket_kind(int fd, int32_t *ret_kind)
{
	static const int options[3] = { SO_DOMAIN, SO_TYPE, SO_PROTOCOL };

	for (int i = 0; i < 3; i++) {
		socklen_t size = sizeof(ret_kind[i]);

		if (getsockopt(fd, SOL_SOCKET, options[i], &ret_kind[i], &size) < 0)
			return -errno;
	}
	return 0;
}
