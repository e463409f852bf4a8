// SPDX-License-Identifier: Apache-2.0
/* Ways to a file or directory that was not granted. */
#include "attack.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static long read_byte(int fd)
{
	char byte;

	return fd < 0 ? -1 : read(fd, &byte, 1);
}

static long read_path(char **arguments)
{
	return read_byte(open(arguments[0], O_RDONLY | O_CLOEXEC));
}

/* A path whose bytes need not be UTF-8, in hexadecimal. */
static long read_hex(char **arguments)
{
	char path[4096];
	size_t length = strlen(arguments[0]) / 2;

	for (size_t i = 0; i < length; i++)
		sscanf(arguments[0] + 2 * i, "%2hhx", (unsigned char *)&path[i]);
	path[length] = '\0';
	return read_path((char *[]){ path });
}

static long write_path(char **arguments)
{
	int fd = open(arguments[0], O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -1 : write(fd, "x", 1);
}

static long append_path(char **arguments)
{
	int fd = open(arguments[0], O_RDWR | O_APPEND | O_CLOEXEC);

	return fd < 0 ? -1 : write(fd, "x", 1);
}

/* The first system call of that name, which the C library no longer makes. */
static long legacy_open(char **arguments)
{
#ifdef SYS_open
	return read_byte((int)syscall(SYS_open, arguments[0], O_RDONLY));
#else
	return read_path(arguments);
#endif
}

static long legacy_creat(char **arguments)
{
#ifdef SYS_creat
	return syscall(SYS_creat, arguments[0], 0600);
#else
	return creat(arguments[0], 0600);
#endif
}

static long openat2_path(char **arguments)
{
	struct open_how how = { .flags = O_RDONLY };

	return read_byte((int)syscall(SYS_openat2, AT_FDCWD, arguments[0], &how, sizeof(how)));
}

static long openat2_write(char **arguments)
{
	struct open_how how = { .flags = O_WRONLY };
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, arguments[0], &how, sizeof(how));

	return fd < 0 ? -1 : write(fd, "x", 1);
}

/* A new symbolic link, in a directory that may be written, to a path that may not be read. */
static long by_symlink(char **arguments)
{
	char link[4096];

	snprintf(link, sizeof(link), "%s/symbolic-%d", arguments[0], getpid());
	if (symlink(arguments[1], link) < 0)
		return -1;
	return read_path((char *[]){ link });
}

static long by_hard_link(char **arguments)
{
	char link_path[4096];

	snprintf(link_path, sizeof(link_path), "%s/hard-%d", arguments[0], getpid());
	if (link(arguments[1], link_path) < 0)
		return -1;
	return read_path((char *[]){ link_path });
}

/* linkat() of a descriptor that was opened without any right. */
static long by_descriptor_link(char **arguments)
{
	char from[64], to[4096];
	int fd = open(arguments[1], O_PATH | O_CLOEXEC);

	if (fd < 0)
		return -1;
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	snprintf(to, sizeof(to), "%s/linked-%d", arguments[0], getpid());
	if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) < 0)
		return -1;
	return read_path((char *[]){ to });
}

static long by_reopening(char **arguments)
{
	char path[64];
	int fd = open(arguments[0], O_PATH | O_CLOEXEC);

	if (fd < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return read_path((char *[]){ path });
}

static long by_root_link(char **arguments)
{
	char path[4096];

	snprintf(path, sizeof(path), "/proc/self/root%s", arguments[0]);
	return read_path((char *[]){ path });
}

/* Directory, then a name in it. */
static long by_directory(char **arguments)
{
	int fd = open(arguments[0], O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -1 : read_byte(openat(fd, arguments[1], O_RDONLY | O_CLOEXEC));
}

static long by_working_directory(char **arguments)
{
	if (chdir(arguments[0]) < 0)
		return -1;
	return read_path((char *[]){ arguments[1] });
}

static long by_cwd_link(char **arguments)
{
	char path[4096];

	if (chdir(arguments[0]) < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/cwd/%s", arguments[1]);
	return read_path((char *[]){ path });
}

static long by_handle(char **arguments)
{
	struct {
		struct file_handle handle;
		unsigned char bytes[128];
	} name = { .handle = { .handle_bytes = 128 } };
	int mount_id;
	int mount_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (name_to_handle_at(AT_FDCWD, arguments[0], &name.handle, &mount_id, 0) < 0)
		return -1;
	mount_fd = open(arguments[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return mount_fd < 0 ? -1 : read_byte(open_by_handle_at(mount_fd, &name.handle, O_RDONLY));
}

static long list_directory(char **arguments)
{
	char entries[4096];
	int fd = open(arguments[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -1 : syscall(SYS_getdents64, fd, entries, sizeof(entries));
}

static long nameless_file(char **arguments)
{
	return open(arguments[0], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static long truncate_path(char **arguments)
{
	struct stat status;

	return stat(arguments[0], &status) < 0 ? -1 : truncate(arguments[0], status.st_size);
}

/* O_RDONLY is all that it asks for, but it empties the file. */
static long truncate_by_reading(char **arguments)
{
	return open(arguments[0], O_RDONLY | O_TRUNC | O_CLOEXEC);
}

static long make_file(char **arguments)
{
	return open(arguments[0], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

static long make_directory(char **arguments)
{
	return mkdir(arguments[0], 0700);
}

static long make_symlink(char **arguments)
{
	return symlink("nowhere", arguments[0]);
}

static long make_fifo(char **arguments)
{
	return mknod(arguments[0], S_IFIFO | 0600, 0);
}

/* The node of a device: the zero device, which harms nobody. */
static long make_device(char **arguments)
{
	return mknod(arguments[0], S_IFCHR | 0600, makedev(1, 5));
}

static long make_block_device(char **arguments)
{
	return mknodat(AT_FDCWD, arguments[0], S_IFBLK | 0600, makedev(7, 0));
}

static long remove_file(char **arguments)
{
	return unlink(arguments[0]);
}

static long remove_directory(char **arguments)
{
	return rmdir(arguments[0]);
}

static long rename_path(char **arguments)
{
	return rename(arguments[0], arguments[1]);
}

static long renameat2_path(char **arguments)
{
	return renameat2(AT_FDCWD, arguments[0], AT_FDCWD, arguments[1], RENAME_NOREPLACE);
}

static long exchange_paths(char **arguments)
{
	return renameat2(AT_FDCWD, arguments[0], AT_FDCWD, arguments[1], RENAME_EXCHANGE);
}

static long execute(char **arguments)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execv(arguments[0], (char *[]){ arguments[0], NULL });
		_exit(errno);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : fail(WEXITSTATUS(status));
}

/* By the dynamic loader, which maps what it may only read. */
static long execute_by_loader(char **arguments)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		close(2);
		execv("/lib64/ld-linux-x86-64.so.2", (char *[]){ "ld", arguments[0], NULL });
		_exit(errno);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : fail(EACCES);
}

static long watch(char **arguments)
{
	int fd = inotify_init1(IN_CLOEXEC);

	return fd < 0 ? -1 : inotify_add_watch(fd, arguments[0], IN_ALL_EVENTS);
}

static long fanotify(char **arguments)
{
	int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID, O_RDONLY);

	return fd < 0 ? -1 : fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, arguments[0]);
}

static long lease(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : fcntl(fd, F_SETLEASE, F_RDLCK);
}

static long directory_notice(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -1 : fcntl(fd, F_NOTIFY, DN_ACCESS);
}

static long lock(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : flock(fd, LOCK_EX | LOCK_NB);
}

static long status_of(char **arguments)
{
	struct stat status;

	return stat(arguments[0], &status);
}

static long exists(char **arguments)
{
	return access(arguments[0], F_OK);
}

/* A core file is written by the kernel, with no call of the program's. */
static long core_limit(char **arguments)
{
	struct rlimit limit = { .rlim_cur = 4096, .rlim_max = 4096 };

	(void)arguments;
	return setrlimit(RLIMIT_CORE, &limit);
}

const struct attack file_attacks[] = {
	{ "read", 1, read_path },
	{ "read-hex", 1, read_hex },
	{ "write", 1, write_path },
	{ "append", 1, append_path },
	{ "open", 1, legacy_open },
	{ "creat", 1, legacy_creat },
	{ "openat2", 1, openat2_path },
	{ "openat2-write", 1, openat2_write },
	{ "by-symlink", 2, by_symlink },
	{ "by-hard-link", 2, by_hard_link },
	{ "by-descriptor-link", 2, by_descriptor_link },
	{ "by-reopening", 1, by_reopening },
	{ "by-root-link", 1, by_root_link },
	{ "by-directory", 2, by_directory },
	{ "by-working-directory", 2, by_working_directory },
	{ "by-cwd-link", 2, by_cwd_link },
	{ "by-handle", 2, by_handle },
	{ "list", 1, list_directory },
	{ "nameless-file", 1, nameless_file },
	{ "truncate", 1, truncate_path },
	{ "truncate-by-reading", 1, truncate_by_reading },
	{ "make-file", 1, make_file },
	{ "make-directory", 1, make_directory },
	{ "make-symlink", 1, make_symlink },
	{ "make-fifo", 1, make_fifo },
	{ "make-device", 1, make_device },
	{ "make-block-device", 1, make_block_device },
	{ "remove", 1, remove_file },
	{ "remove-directory", 1, remove_directory },
	{ "rename", 2, rename_path },
	{ "renameat2", 2, renameat2_path },
	{ "exchange", 2, exchange_paths },
	{ "execute", 1, execute },
	{ "execute-by-loader", 1, execute_by_loader },
	{ "inotify", 1, watch },
	{ "fanotify", 1, fanotify },
	{ "lease", 1, lease },
	{ "directory-notice", 1, directory_notice },
	{ "flock", 1, lock },
	{ "stat", 1, status_of },
	{ "exists", 1, exists },
	{ "core-limit", 0, core_limit },
	{ 0 },
};
