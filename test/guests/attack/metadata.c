// SPDX-License-Identifier: Apache-2.0
/* What an owner, or root, may change of a file without any right to its content. Each sets what is there already. */
#include "attack.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#define NR_fchmodat2 452
#define NR_setxattrat 463
#define NR_removexattrat 466
#define NR_file_getattr 468
#define NR_file_setattr 469

#define ATTRIBUTE "user.sandgate"

static mode_t mode_of(const char *path)
{
	struct stat status;

	return stat(path, &status) < 0 ? 0600 : status.st_mode & 07777;
}

static long change_mode(char **arguments)
{
	return chmod(arguments[0], mode_of(arguments[0]));
}

/* Reading is all that the descriptor was opened for. */
static long change_mode_of_descriptor(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : fchmod(fd, mode_of(arguments[0]));
}

static long fchmodat_path(char **arguments)
{
	return fchmodat(AT_FDCWD, arguments[0], mode_of(arguments[0]), 0);
}

static long fchmodat2_path(char **arguments)
{
	return syscall(NR_fchmodat2, AT_FDCWD, arguments[0], mode_of(arguments[0]), 0);
}

/* Through a descriptor that was opened without any right. */
static long fchmodat2_descriptor(char **arguments)
{
	int fd = open(arguments[0], O_PATH | O_CLOEXEC);

	return fd < 0 ? -1 : syscall(NR_fchmodat2, fd, "", mode_of(arguments[0]), AT_EMPTY_PATH);
}

static long change_owner(char **arguments)
{
	return chown(arguments[0], (uid_t)-1, getgid());
}

static long lchown_path(char **arguments)
{
	return lchown(arguments[0], (uid_t)-1, getgid());
}

static long fchown_path(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : fchown(fd, (uid_t)-1, getgid());
}

static long fchownat_path(char **arguments)
{
	int fd = open(arguments[0], O_PATH | O_CLOEXEC);

	return fd < 0 ? -1 : fchownat(fd, "", (uid_t)-1, getgid(), AT_EMPTY_PATH);
}

static long legacy_utime(char **arguments)
{
#ifdef SYS_utime
	return syscall(SYS_utime, arguments[0], NULL);
#else
	return utime(arguments[0], NULL);
#endif
}

static long legacy_utimes(char **arguments)
{
#ifdef SYS_utimes
	return syscall(SYS_utimes, arguments[0], NULL);
#else
	return utimes(arguments[0], NULL);
#endif
}

static long legacy_futimesat(char **arguments)
{
#ifdef SYS_futimesat
	return syscall(SYS_futimesat, AT_FDCWD, arguments[0], NULL);
#else
	return futimesat(AT_FDCWD, arguments[0], NULL);
#endif
}

static long utimensat_path(char **arguments)
{
	return utimensat(AT_FDCWD, arguments[0], NULL, 0);
}

static long futimens_descriptor(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : futimens(fd, NULL);
}

static long set_attribute(char **arguments)
{
	return setxattr(arguments[0], ATTRIBUTE, "x", 1, 0);
}

static long lset_attribute(char **arguments)
{
	return lsetxattr(arguments[0], ATTRIBUTE, "x", 1, 0);
}

static long fset_attribute(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : fsetxattr(fd, ATTRIBUTE, "x", 1, 0);
}

static long setxattrat_path(char **arguments)
{
	struct {
		uint64_t value;
		uint32_t size, flags;
	} how = { (uint64_t)(uintptr_t)"x", 1, 0 };

	return syscall(NR_setxattrat, AT_FDCWD, arguments[0], 0, ATTRIBUTE, &how, sizeof(how));
}

/* That it is not there is as good as that it was removed. */
static long removed(long result)
{
	return result < 0 && errno == ENODATA ? 0 : result;
}

static long remove_attribute(char **arguments)
{
	return removed(removexattr(arguments[0], ATTRIBUTE));
}

static long lremove_attribute(char **arguments)
{
	return removed(lremovexattr(arguments[0], ATTRIBUTE));
}

static long fremove_attribute(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : removed(fremovexattr(fd, ATTRIBUTE));
}

static long removexattrat_path(char **arguments)
{
	return removed(syscall(NR_removexattrat, AT_FDCWD, arguments[0], 0, ATTRIBUTE));
}

static long set_flags(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);
	int flags;

	return fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 ? -1 : ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static long set_extended_flags(char **arguments)
{
	int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);
	struct fsxattr flags;

	return fd < 0 || ioctl(fd, FS_IOC_FSGETXATTR, &flags) < 0 ? -1 : ioctl(fd, FS_IOC_FSSETXATTR, &flags);
}

static long file_setattr_path(char **arguments)
{
	uint64_t attributes[3] = { 0 };

	if (syscall(NR_file_getattr, AT_FDCWD, arguments[0], attributes, sizeof(attributes), 0) < 0)
		return -1;
	return syscall(NR_file_setattr, AT_FDCWD, arguments[0], attributes, sizeof(attributes), 0);
}

const struct attack metadata_attacks[] = {
	{ "chmod", 1, change_mode },
	{ "fchmod", 1, change_mode_of_descriptor },
	{ "fchmodat", 1, fchmodat_path },
	{ "fchmodat2", 1, fchmodat2_path },
	{ "fchmodat2-descriptor", 1, fchmodat2_descriptor },
	{ "chown", 1, change_owner },
	{ "lchown", 1, lchown_path },
	{ "fchown", 1, fchown_path },
	{ "fchownat-descriptor", 1, fchownat_path },
	{ "utime", 1, legacy_utime },
	{ "utimes", 1, legacy_utimes },
	{ "futimesat", 1, legacy_futimesat },
	{ "utimensat", 1, utimensat_path },
	{ "futimens", 1, futimens_descriptor },
	{ "setxattr", 1, set_attribute },
	{ "lsetxattr", 1, lset_attribute },
	{ "fsetxattr", 1, fset_attribute },
	{ "setxattrat", 1, setxattrat_path },
	{ "removexattr", 1, remove_attribute },
	{ "lremovexattr", 1, lremove_attribute },
	{ "fremovexattr", 1, fremove_attribute },
	{ "removexattrat", 1, removexattrat_path },
	{ "set-flags", 1, set_flags },
	{ "set-extended-flags", 1, set_extended_flags },
	{ "file-setattr", 1, file_setattr_path },
	{ 0 },
};
