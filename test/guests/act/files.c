// SPDX-License-Identifier: Apache-2.0
/* Acts on paths, and the ways to execute one. */
#include "act.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Reads a byte too, so that a file which opens but cannot be read is told. */
static int open_read(int count, char **arguments)
{
	int fd = open(arguments[0], O_RDONLY);
	char byte;

	(void)count;
	if (fd < 0)
		return report(fd);
	return report(read(fd, &byte, 1) < 0 && errno != EISDIR ? -1 : 0);
}

static int open_write(int count, char **arguments)
{
	int fd = open(arguments[0], O_WRONLY);

	(void)count;
	return report(fd < 0 ? fd : write(fd, "x", 1));
}

static int creat_file(int count, char **arguments)
{
	int fd = creat(arguments[0], 0600);

	(void)count;
	return report(fd < 0 ? fd : write(fd, "x", 1));
}

/* The call of that name, which open() of the C library does not use. */
static int openat2_read(int count, char **arguments)
{
	struct open_how how = { .flags = O_RDONLY };

	(void)count;
	return report(syscall(SYS_openat2, AT_FDCWD, arguments[0], &how, sizeof(how)));
}

static int open_path(int count, char **arguments)
{
	(void)count;
	return report(open(arguments[0], O_PATH));
}

static int unlink_file(int count, char **arguments)
{
	(void)count;
	return report(unlink(arguments[0]));
}

static int make_directory(int count, char **arguments)
{
	(void)count;
	return report(mkdir(arguments[0], 0700));
}

static int rename_path(int count, char **arguments)
{
	(void)count;
	return report(rename(arguments[0], arguments[1]));
}

static int swap_paths(int count, char **arguments)
{
	(void)count;
	return report(renameat2(AT_FDCWD, arguments[0], AT_FDCWD, arguments[1], RENAME_EXCHANGE));
}

static int remove_directory(int count, char **arguments)
{
	(void)count;
	return report(rmdir(arguments[0]));
}

static int make_fifo(int count, char **arguments)
{
	(void)count;
	return report(mkfifo(arguments[0], 0600));
}

static int link_path(int count, char **arguments)
{
	(void)count;
	return report(link(arguments[0], arguments[1]));
}

static int symlink_path(int count, char **arguments)
{
	(void)count;
	return report(symlink(arguments[0], arguments[1]));
}

static int truncate_file(int count, char **arguments)
{
	(void)count;
	return report(truncate(arguments[0], 0));
}

static int stat_path(int count, char **arguments)
{
	struct stat status;

	(void)count;
	return report(stat(arguments[0], &status));
}

static int exec_path(int count, char **arguments)
{
	(void)count;
	return report(execv(arguments[0], arguments));
}

/* execveat(2) of a descriptor alone: the path is empty. */
static int execveat_fd(int count, char **arguments)
{
	int fd = open(arguments[0], O_PATH | O_CLOEXEC);

	(void)count;
	if (fd < 0)
		return report(fd);
	return report(syscall(SYS_execveat, fd, "", arguments, environ, AT_EMPTY_PATH));
}

/* As a shell or posix_spawn does: the parent stands still until the child has executed. */
static int vfork_exec(int count, char **arguments)
{
	volatile int child_errno = 0;
	pid_t pid = vfork();
	int status;

	(void)count;
	if (pid == 0) {
		execv(arguments[0], arguments);
		child_errno = errno;
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return report(-1);
	errno = child_errno;
	if (child_errno != 0)
		return report(-1);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? report(0) : report_word("child-failed");
}

const struct act file_acts[] = {
	{ "open-read", 1, open_read },
	{ "open-write", 1, open_write },
	{ "creat", 1, creat_file },
	{ "openat2", 1, openat2_read },
	{ "open-path", 1, open_path },
	{ "unlink", 1, unlink_file },
	{ "mkdir", 1, make_directory },
	{ "rename", 2, rename_path },
	{ "swap", 2, swap_paths },
	{ "rmdir", 1, remove_directory },
	{ "mkfifo", 1, make_fifo },
	{ "link", 2, link_path },
	{ "symlink", 2, symlink_path },
	{ "truncate", 1, truncate_file },
	{ "stat", 1, stat_path },
	{ "exec", 1, exec_path },
	{ "execveat-fd", 1, execveat_fd },
	{ "vfork-exec", 1, vfork_exec },
	{ 0 },
};
