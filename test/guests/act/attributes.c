// SPDX-License-Identifier: Apache-2.0
/* Calls that change what is known about a file: none of them opens it for writing. */
#include "act.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#define NR_fchmodat2 452
#define NR_setxattrat 463
#define NR_mount_setattr 442
#define NR_open_tree 428
#define NR_file_setattr 469

struct xattr_arguments {
	uint64_t value;
	uint32_t size;
	uint32_t flags;
};

static void tell(const char *call, long result)
{
	printf("%s %s\n", call, result < 0 ? strerrorname_np(errno) : "ok");
}

/* One line for each call: its name and how it went. */
static int change_metadata(int count, char **arguments)
{
	const char *path = arguments[0];
	struct xattr_arguments xattr = { .value = (uint64_t)(uintptr_t)"x", .size = 1 };
	uint64_t attributes[4] = { 0 };
	int fd = open(path, O_RDONLY);
	int path_fd = open(path, O_PATH);
	char link[64];
	int flags = 0;

	(void)count;
	if (fd < 0)
		return report(fd);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	tell("chmod", chmod(path, 0666));
	tell("fchmod", fchmod(fd, 0666));
	tell("fchmodat", syscall(SYS_fchmodat, AT_FDCWD, path, 0666));
	tell("fchmodat2", syscall(NR_fchmodat2, path_fd, "", 0666, AT_EMPTY_PATH));
	tell("chown", chown(path, getuid(), getgid()));
	tell("lchown", lchown(path, getuid(), getgid()));
	tell("fchown", fchown(fd, getuid(), getgid()));
	tell("fchownat", fchownat(path_fd, "", getuid(), getgid(), AT_EMPTY_PATH));
	tell("utime", utime(path, NULL));
	tell("utimes", utimes(path, NULL));
	tell("futimens", futimens(fd, NULL));
	tell("utimensat", utimensat(AT_FDCWD, path, NULL, 0));
	tell("setxattr", setxattr(path, "user.one", "x", 1, 0));
	tell("lsetxattr", lsetxattr(path, "user.two", "x", 1, 0));
	tell("fsetxattr", fsetxattr(fd, "user.three", "x", 1, 0));
	tell("setxattrat", syscall(NR_setxattrat, AT_FDCWD, path, 0, "user.four", &xattr, sizeof(xattr)));
	tell("removexattr", removexattr(path, "user.one"));
	tell("lremovexattr", lremovexattr(path, "user.two"));
	tell("fremovexattr", fremovexattr(fd, "user.three"));
	tell("file_setattr", syscall(NR_file_setattr, AT_FDCWD, path, attributes, sizeof(attributes) - 8, 0));
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0)
		tell("FS_IOC_SETFLAGS", ioctl(fd, FS_IOC_SETFLAGS, &flags));
	return 0;
}

/* Ways to get another view, or to write through the one there is. */
static int change_mounts(int count, char **arguments)
{
	const char *path = arguments[0];
	uint64_t writable[4] = { 0, 1, 0, 0 };

	(void)count;
	tell("umount", umount2(path, MNT_DETACH));
	tell("remount", mount(NULL, path, NULL, MS_REMOUNT | MS_BIND, NULL));
	tell("bind", mount(path, path, NULL, MS_BIND, NULL));
	tell("mount_setattr", syscall(NR_mount_setattr, AT_FDCWD, path, 0, writable, sizeof(writable)));
	tell("open_tree", syscall(NR_open_tree, AT_FDCWD, path, 1));
	tell("pivot_root", syscall(SYS_pivot_root, path, path));
	tell("chroot", chroot(path));
	return 0;
}

const struct act attribute_acts[] = {
	{ "attributes", 1, change_metadata },
	{ "mounts", 1, change_mounts },
	{ 0 },
};
