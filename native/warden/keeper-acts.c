// SPDX-License-Identifier: Apache-2.0
/*
 * Calls that the keeper carries out on files where Landlock says nothing of them: on the very inode that was looked
 * at, and only where the program's own grants cover it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../kernel.h"
#include "acts.h"
#include "resolve.h"

static int copy_string(const char **bytes, size_t *left, uint32_t length, char *ret_string, size_t size)
{
	if (length > *left || memchr(*bytes, '\0', length) != NULL)
		return -EINVAL;
	if (length >= size)
		return -ENAMETOOLONG;
	memcpy(ret_string, *bytes, length);
	ret_string[length] = '\0';
	*bytes += length;
	*left -= length;
	return 0;
}

static int take_apart(const struct request *request, struct act *act)
{
	const char *bytes = request->bytes + sizeof(act->head);
	size_t left;
	int r;

	if (request->head->length < sizeof(act->head))
		return -EINVAL;
	left = request->head->length - sizeof(act->head);
	memcpy(&act->head, request->bytes, sizeof(act->head));
	act->op_id = request->head->op_id;
	act->flags = request->head->flags;
	act->mode = request->head->mode & 07777;
	act->umask = request->head->umask & 0777;
	r = copy_string(&bytes, &left, act->head.path, act->path, sizeof(act->path));
	if (r == 0)
		r = copy_string(&bytes, &left, act->head.name, act->name, sizeof(act->name));
	if (r == 0 && left != act->head.value)
		r = -EINVAL;
	act->value = bytes;
	return r;
}

/* Opens what the act is about, for nothing but to know what it is. */
static int pin(struct act *act, int *ret_fd)
{
	struct place place;
	int flags, r;

	if (!(act->flags & SG_ACT_DESCRIPTOR)) {
		r = resolve_path(act->directory_fd >= 0 ? act->directory_fd : -EBADF, act->path,
				 O_PATH | (act->flags & SG_ACT_NOFOLLOW ? O_NOFOLLOW : 0), &place);
		if (r == 0)
			*ret_fd = place.fd;
		return r;
	}
	flags = fcntl(act->directory_fd, F_GETFL);
	if (flags < 0 || ((flags & O_PATH) && (act->flags & SG_ACT_OPENED)))
		return -EBADF;
	*ret_fd = fcntl(act->directory_fd, F_DUPFD_CLOEXEC, 0);
	return *ret_fd < 0 ? -errno : 0;
}

/* A regular file that is open for writing was granted so: what else may be written is no regular file. */
static bool is_open_for_writing(const struct act *act)
{
	int flags = act->flags & SG_ACT_DESCRIPTOR && act->is_regular ? fcntl(act->fd, F_GETFL) : -1;

	return flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_RDONLY;
}

/* What may be changed lies below a tree that is granted for writing as a whole, which a device is not. */
static int may_change(struct keeper *keeper, const struct act *act)
{
	struct rights rights;
	int r;

	if (is_open_for_writing(act))
		return 0;
	r = find_rights(keeper->grants, act->fd, &rights);
	if (r < 0)
		return r == -EACCES || r == -ENOENT ? -EPERM : r;
	return rights.whole & LL_FS_MAKE_REG ? 0 : -EPERM;
}

static int may_watch(struct keeper *keeper, const struct act *act)
{
	struct rights rights;
	int r = find_rights(keeper->grants, act->fd, &rights);

	if (r < 0)
		return r == -ENOENT ? -EACCES : r;
	return rights.whole & (LL_FS_READ_FILE | LL_FS_READ_DIR) ? 0 : -EACCES;
}

static long change_mode(const struct act *act)
{
	/* The kernel refuses to change a link's mode: let it say so. */
	if (act->is_link)
		return syscall(NR_fchmodat2, act->fd, "", act->mode, AT_EMPTY_PATH);
	return chmod(act->link, act->mode);
}

static long change_owner(const struct act *act)
{
	return fchownat(act->fd, "", act->head.uid, act->head.gid, AT_EMPTY_PATH);
}

static long change_times(const struct act *act)
{
	const int64_t *times = act->head.times;
	const struct timespec both[2] = {{.tv_sec = times[0], .tv_nsec = times[1]},
					 {.tv_sec = times[2], .tv_nsec = times[3]}};

	return utimensat(act->fd, "", both, AT_EMPTY_PATH);
}

static long set_attribute(const struct act *act)
{
	const int options = (int)act->head.options;

	if (!act->is_link)
		return setxattr(act->link, act->name, act->value, act->head.value, options);
	errno = EPERM; /* what an ordinary user may set, no link can have: xattr(7) */
	return -1;
}

static long remove_attribute(const struct act *act)
{
	if (!act->is_link)
		return removexattr(act->link, act->name);
	errno = EPERM;
	return -1;
}

static long watch(const struct act *act)
{
	return inotify_add_watch(act->other_fd, act->link, act->head.options & ~(uint32_t)IN_DONT_FOLLOW);
}

/* Acts on what a file is known by: each on the pinned inode, once it was judged. */
static const struct {
	int (*judge)(struct keeper *keeper, const struct act *act);
	long (*carry_out)(const struct act *act); /* 0 or more, or -1 with errno */
} pinned_acts[] = {
	[SG_ACT_CHMOD] = {may_change, change_mode},
	[SG_ACT_CHOWN] = {may_change, change_owner},
	[SG_ACT_UTIME] = {may_change, change_times},
	[SG_ACT_SETXATTR] = {may_change, set_attribute},
	[SG_ACT_REMOVEXATTR] = {may_change, remove_attribute},
	[SG_ACT_WATCH] = {may_watch, watch},
};

static long (*const path_acts[])(struct keeper *keeper, struct act *act) = {
	[SG_ACT_OPEN] = act_open,	[SG_ACT_MKDIR] = act_mkdir,   [SG_ACT_MKNOD] = act_mknod,
	[SG_ACT_RMDIR] = act_rmdir,	[SG_ACT_UNLINK] = act_unlink, [SG_ACT_SYMLINK] = act_symlink,
	[SG_ACT_LINK] = act_link,	[SG_ACT_RENAME] = act_rename, [SG_ACT_TRUNCATE] = act_truncate,
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* Returns what the call did, or a negative errno. */
static long carry_out(struct keeper *keeper, struct act *act)
{
	const uint32_t kind = act->head.act;
	cleanup_close int fd = -1;
	struct stat status;
	long result;
	int r;

	if (kind < COUNT(path_acts) && path_acts[kind] != NULL)
		return path_acts[kind](keeper, act);
	if (kind >= COUNT(pinned_acts) || pinned_acts[kind].judge == NULL)
		return -EINVAL;
	r = pin(act, &fd);
	if (r < 0)
		return r;
	if (fstat(fd, &status) < 0)
		return -errno;
	act->fd = fd;
	act->is_link = S_ISLNK(status.st_mode);
	act->is_regular = S_ISREG(status.st_mode);
	snprintf(act->link, sizeof(act->link), "/proc/self/fd/%d", fd);
	r = pinned_acts[kind].judge(keeper, act);
	if (r < 0)
		return r;
	result = pinned_acts[kind].carry_out(act);
	return result < 0 ? -errno : result;
}

void handle_act(struct keeper *keeper, struct request *request)
{
	cleanup_close int directory_fd = take_fd(request->packet, 0);
	cleanup_close int other_fd = take_fd(request->packet, 1);
	struct act act = {.directory_fd = directory_fd, .other_fd = other_fd, .ret_opened = -1};
	struct sg_keeper_reply message = {.op = request->head->op, .op_id = request->head->op_id};
	long result = take_apart(request, &act);

	if (result == 0)
		result = carry_out(keeper, &act);
	if (result == -EINPROGRESS)
		return;
	message.error = result < 0 ? (int32_t)result : 0;
	message.flags = result < 0 ? 0 : (uint32_t)result;
	reply(keeper, &message, sizeof(message), act.ret_opened);
	close_fd(&act.ret_opened);
}
