// SPDX-License-Identifier: Apache-2.0
/* Every call that changes a file's mode, owner, times, attributes or flags, and watching files. */
#include "act.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

/* Numbers of both architectures; older headers lack them. */
#define NR_fchmodat2 452
#define NR_setxattrat 463
#define NR_file_setattr 469

#define MODE 0640
#define TIME 86400
#define NAME "user.act"

static const struct timespec times[2] = { { .tv_sec = TIME }, { .tv_sec = TIME } };
static const struct timeval micros[2] = { { .tv_sec = TIME }, { .tv_sec = TIME } };

static long by_chmod(const char *path) { return chmod(path, MODE); }
static long by_fchmodat(const char *path) { return fchmodat(AT_FDCWD, path, MODE, 0); }
static long by_fchmodat2(const char *path) { return syscall(NR_fchmodat2, AT_FDCWD, path, MODE, 0); }
static long by_chown(const char *path) { return chown(path, getuid(), getgid()); }
static long by_lchown(const char *path) { return lchown(path, getuid(), getgid()); }
static long by_fchownat(const char *path) { return fchownat(AT_FDCWD, path, getuid(), getgid(), 0); }
static long by_utime(const char *path)
{
	const struct utimbuf both = { TIME, TIME };

	return utime(path, &both);
}
static long by_utimes(const char *path) { return utimes(path, micros); }
static long by_futimesat(const char *path) { return futimesat(AT_FDCWD, path, micros); }
static long by_utimensat(const char *path) { return utimensat(AT_FDCWD, path, times, 0); }
static long by_utimensat_nofollow(const char *path)
{
	return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}
static long by_setxattr(const char *path) { return setxattr(path, NAME, "value", 5, 0); }
static long by_lsetxattr(const char *path) { return lsetxattr(path, NAME, "value", 5, 0); }
static long by_removexattr(const char *path) { return removexattr(path, NAME); }
static long by_lremovexattr(const char *path) { return lremovexattr(path, NAME); }
static long by_setxattrat(const char *path)
{
	const struct { uint64_t value; uint32_t size, flags; } arguments = { (uintptr_t) "value", 5, 0 };

	return syscall(NR_setxattrat, AT_FDCWD, path, 0, NAME, &arguments, sizeof(arguments));
}
static long by_file_setattr(const char *path)
{
	const struct { uint64_t flags; uint32_t extent, count, project, cow; } arguments = { 0x80 /* NODUMP */, 0, 0, 0, 0 };

	return syscall(NR_file_setattr, AT_FDCWD, path, &arguments, sizeof(arguments), 0);
}

static long on_fchmod(int fd) { return fchmod(fd, MODE); }
static long on_fchown(int fd) { return fchown(fd, getuid(), getgid()); }
static long on_futimens(int fd) { return futimens(fd, times); }
static long on_fsetxattr(int fd) { return fsetxattr(fd, NAME, "value", 5, 0); }
static long on_fremovexattr(int fd) { return fremovexattr(fd, NAME); }
static long on_setflags(int fd)
{
	int flags = FS_NODUMP_FL;

	return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}
static long on_fssetxattr(int fd)
{
	struct fsxattr attributes = { .fsx_xflags = FS_XFLAG_NODUMP };

	return ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
}
static long on_fchmodat2_empty(int fd) { return syscall(NR_fchmodat2, fd, "", MODE, AT_EMPTY_PATH); }
static long on_fchownat_empty(int fd) { return fchownat(fd, "", getuid(), getgid(), AT_EMPTY_PATH); }
static long on_proc_chmod(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return chmod(path, MODE);
}

static const struct {
	const char *name;
	long (*by_path)(const char *path);
	long (*by_fd)(int fd);
	int flags;
} ways[] = {
	{ "chmod", by_chmod, 0, 0 },
	{ "fchmodat", by_fchmodat, 0, 0 },
	{ "fchmodat2", by_fchmodat2, 0, 0 },
	{ "chown", by_chown, 0, 0 },
	{ "lchown", by_lchown, 0, 0 },
	{ "fchownat", by_fchownat, 0, 0 },
	{ "utime", by_utime, 0, 0 },
	{ "utimes", by_utimes, 0, 0 },
	{ "futimesat", by_futimesat, 0, 0 },
	{ "utimensat", by_utimensat, 0, 0 },
	{ "utimensat-nofollow", by_utimensat_nofollow, 0, 0 },
	{ "setxattr", by_setxattr, 0, 0 },
	{ "lsetxattr", by_lsetxattr, 0, 0 },
	{ "removexattr", by_removexattr, 0, 0 },
	{ "lremovexattr", by_lremovexattr, 0, 0 },
	{ "setxattrat", by_setxattrat, 0, 0 },
	{ "file_setattr", by_file_setattr, 0, 0 },
	{ "fchmod", 0, on_fchmod, O_RDONLY },
	{ "fchmod-path", 0, on_fchmod, O_PATH },
	{ "fchown", 0, on_fchown, O_RDONLY },
	{ "futimens", 0, on_futimens, O_RDONLY },
	{ "fsetxattr", 0, on_fsetxattr, O_RDONLY },
	{ "fremovexattr", 0, on_fremovexattr, O_RDONLY },
	{ "setflags", 0, on_setflags, O_RDONLY },
	{ "fssetxattr", 0, on_fssetxattr, O_RDONLY },
	{ "fchmodat2-empty", 0, on_fchmodat2_empty, O_PATH },
	{ "fchownat-empty", 0, on_fchownat_empty, O_PATH },
	{ "proc-chmod", 0, on_proc_chmod, O_PATH },
};

static int change(int count, char **arguments)
{
	(void)count;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		int fd;

		if (strcmp(ways[i].name, arguments[0]) != 0)
			continue;
		if (ways[i].by_path)
			return report(ways[i].by_path(arguments[1]));
		fd = open(arguments[1], ways[i].flags);
		return report(fd < 0 ? fd : ways[i].by_fd(fd));
	}
	return report_word("unknown-way");
}

/* What a program does to a file that it makes, and to one without a name. */
static int change_own(int count, char **arguments)
{
	int fd = open(arguments[0], O_WRONLY | O_CREAT | O_EXCL, 0600);
	int nameless = open(".", O_TMPFILE | O_RDWR, 0600);
	int memory = memfd_create("act", MFD_CLOEXEC);
	struct stat status;

	(void)count;
	if (fd < 0 || fchown(fd, getuid(), getgid()) < 0 || fchmod(fd, 0751) < 0 || futimens(fd, times) < 0 ||
	    fstat(fd, &status) < 0)
		return report(-1);
	if ((status.st_mode & 07777) != 0751 || status.st_mtime != TIME)
		return report_word("unchanged");
	if (unlink(arguments[0]) < 0 || fchmod(fd, 0700) < 0)
		return report(-1);
	if (memory < 0 || fchmod(memory, 0700) < 0)
		return report(-1);
	return report(nameless < 0 ? nameless : fchmod(nameless, 0755));
}

static int watch(int count, char **arguments)
{
	int instance = inotify_init1(IN_CLOEXEC);
	int first = inotify_add_watch(instance, arguments[0], IN_ALL_EVENTS);

	(void)count;
	return report(instance < 0 ? instance : first);
}

/* Watches a directory, makes a file in it, and waits for the news. */
static int watch_and_make(int count, char **arguments)
{
	char path[4096], news[4096] __attribute__((aligned(8)));
	const struct inotify_event *event = (const void *)news;
	int instance = inotify_init1(IN_CLOEXEC);
	int number = inotify_add_watch(instance, arguments[0], IN_CREATE);
	int fd;

	(void)count;
	if (number < 0)
		return report(-1);
	snprintf(path, sizeof(path), "%s/made", arguments[0]);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	if (fd < 0 || read(instance, news, sizeof(news)) < 0)
		return report(-1);
	if (event->wd != number || strcmp(event->name, "made") != 0)
		return report_word("other-event");
	return report(inotify_rm_watch(instance, number));
}

static struct {
	atomic_int stop;
	volatile char path[4096];
	const char *paths[2];
} flipped;

static void *flip(void *unused)
{
	size_t last = strlen(flipped.paths[0]) - 1;

	(void)unused;
	for (int turn = 0; !atomic_load(&flipped.stop); turn ^= 1)
		flipped.path[last] = flipped.paths[turn][last];
	return NULL;
}

/* race-chmod A B COUNT: changes the mode of a path that another thread flips between the two. */
static int race_chmod(int count, char **arguments)
{
	pthread_t thread;

	(void)count;
	flipped.paths[0] = arguments[0];
	flipped.paths[1] = arguments[1];
	strcpy((char *)flipped.path, arguments[0]);
	pthread_create(&thread, NULL, flip, NULL);
	for (long i = strtol(arguments[2], NULL, 10); i > 0; i--)
		chmod((const char *)flipped.path, 0777);
	atomic_store(&flipped.stop, 1);
	pthread_join(thread, NULL);
	return report(0);
}

const struct act metadata_acts[] = {
	{ "change", 2, change },
	{ "change-own", 1, change_own },
	{ "watch", 1, watch },
	{ "watch-and-make", 1, watch_and_make },
	{ "race-chmod", 3, race_chmod },
	{ 0 },
};
