// SPDX-License-Identifier: Apache-2.0
/*
 * Calls on paths directly in the directories that lead to a denied one: the kernel cannot be told that these are
 * granted, so it refuses them, and the keeper carries them out. Everything else is left to the kernel.
 *
 * A directory that leads to a denied path, and that path itself, never moves by anything that the program can do:
 * what is judged by name stays judged.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernel.h"
#include "acts.h"
#include "resolve.h"

#define RENAME_FLAGS 3u /* NOREPLACE, EXCHANGE */

/* The directory and the last name of a path. */
struct entry {
	int fd;
	char name[NAME_MAX + 2]; /* with a slash when the path ended with one */
	struct rights rights;
};

static void close_entry(struct entry *entry)
{
	close_fd(&entry->fd);
}
#define cleanup_entry __attribute__((cleanup(close_entry)))

/* Returns 0; LEAVE for what the kernel answers as well; or -EACCES when it is denied. */
static int find_entry(struct keeper *keeper, int directory_fd, const char *path, struct entry *ret_entry)
{
	bool slashed;
	int r;

	r = resolve_parent(directory_fd >= 0 ? directory_fd : -EBADF, path, ret_entry->name, &slashed);
	if (r < 0)
		return LEAVE;
	ret_entry->fd = r;
	r = find_rights_at(keeper->grants, ret_entry->fd, ret_entry->name, &ret_entry->rights);
	if (slashed)
		strcat(ret_entry->name, "/");
	return r == 0 || r == -EACCES ? r : LEAVE;
}

static bool covers(uint64_t rights, uint64_t wanted)
{
	return (rights & wanted) == wanted;
}

/* 0 where the kernel would refuse what is granted. */
static int judge(const struct rights *rights, uint64_t wanted)
{
	return covers(rights->whole, wanted) && !covers(rights->kernel, wanted) ? 0 : LEAVE;
}

static int judge_two(const struct rights *one, uint64_t wanted, const struct rights *other, uint64_t other_wanted)
{
	if (!covers(one->whole, wanted) || !covers(other->whole, other_wanted))
		return LEAVE;
	return covers(one->kernel, wanted) && covers(other->kernel, other_wanted) ? LEAVE : 0;
}

static long result_of(long result)
{
	return result < 0 ? -errno : result;
}

/* Opens what the act's path leads to, for nothing but to know what it is. */
static int pin_file(struct act *act, bool follow, int *ret_fd)
{
	struct place place;
	int r;

	if (act->flags & SG_ACT_DESCRIPTOR) {
		*ret_fd = fcntl(act->directory_fd, F_DUPFD_CLOEXEC, 0);
		return *ret_fd < 0 ? LEAVE : 0;
	}
	r = resolve_path(act->directory_fd >= 0 ? act->directory_fd : -EBADF, act->path,
			 O_PATH | (follow ? 0 : O_NOFOLLOW), &place);
	if (r < 0)
		return LEAVE;
	*ret_fd = place.fd;
	return 0;
}

static uint64_t open_rights(int flags, bool is_directory, bool exists)
{
	const bool writes = (flags & O_ACCMODE) != O_RDONLY;
	uint64_t wanted = 0;

	if ((flags & O_TMPFILE) == O_TMPFILE)
		return LL_FS_MAKE_REG | LL_FS_WRITE_FILE;
	if ((flags & O_ACCMODE) != O_WRONLY)
		wanted |= is_directory ? LL_FS_READ_DIR : LL_FS_READ_FILE;
	if (writes)
		wanted |= LL_FS_WRITE_FILE;
	if (flags & O_TRUNC)
		wanted |= LL_FS_TRUNCATE;
	return exists ? wanted : wanted | LL_FS_MAKE_REG;
}

long act_open(struct keeper *keeper, struct act *act)
{
	const int flags = (int)act->head.options;
	struct place place;
	struct stat status;
	struct rights rights;
	int r;

	if (act->flags & SG_ACT_DESCRIPTOR)
		return LEAVE;
	if (resolve_path(act->directory_fd >= 0 ? act->directory_fd : -EBADF, act->path, flags, &place) < 0)
		return LEAVE;
	r = place.exists ? find_rights(keeper->grants, place.fd, &rights)
			 : find_rights_at(keeper->grants, place.fd, place.name, &rights);
	if (r == 0 && fstat(place.fd, &status) < 0)
		r = -errno;
	if (r == 0)
		r = judge(&rights, open_rights(flags, place.exists && S_ISDIR(status.st_mode), place.exists));
	else if (r != -EACCES)
		r = LEAVE;
	if (r == 0) {
		umask(act->umask);
		r = open_pinned(keeper, act->op_id, &place.fd, place.exists ? NULL : place.name, flags | O_NOCTTY,
				act->mode);
	}
	close_fd(&place.fd);
	if (r < 0)
		return r;
	act->ret_opened = r;
	return 0;
}

long act_mkdir(struct keeper *keeper, struct act *act)
{
	cleanup_entry struct entry entry = {.fd = -1};
	int r = find_entry(keeper, act->directory_fd, act->path, &entry);

	if (r == 0)
		r = judge(&entry.rights, LL_FS_MAKE_DIR);
	if (r < 0)
		return r;
	umask(act->umask);
	return result_of(mkdirat(entry.fd, entry.name, act->mode));
}

long act_mknod(struct keeper *keeper, struct act *act)
{
	const mode_t mode = act->head.options;
	cleanup_entry struct entry entry = {.fd = -1};
	uint64_t wanted = S_ISFIFO(mode) ? LL_FS_MAKE_FIFO : S_ISSOCK(mode) ? LL_FS_MAKE_SOCK : LL_FS_MAKE_REG;
	int r;

	if (S_ISCHR(mode) || S_ISBLK(mode))
		return -EPERM;
	r = find_entry(keeper, act->directory_fd, act->path, &entry);
	if (r == 0)
		r = judge(&entry.rights, wanted);
	if (r < 0)
		return r;
	umask(act->umask);
	return result_of(mknodat(entry.fd, entry.name, mode, 0));
}

/* Whether a name is that of a directory, and of one that leads to a denied path. */
static int look_at_entry(struct keeper *keeper, const struct entry *entry, bool *ret_is_directory)
{
	cleanup_close int fd = openat(entry->fd, entry->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0)
		return -errno;
	*ret_is_directory = S_ISDIR(status.st_mode);
	return leads_to_denied(keeper->grants, fd) ? -EBUSY : 0;
}

static long remove_entry(struct keeper *keeper, struct act *act, uint64_t wanted, int flags)
{
	cleanup_entry struct entry entry = {.fd = -1};
	bool is_directory;
	int r = find_entry(keeper, act->directory_fd, act->path, &entry);

	if (r == 0)
		r = judge(&entry.rights, wanted);
	if (r == 0)
		r = look_at_entry(keeper, &entry, &is_directory);
	return r < 0 ? r : result_of(unlinkat(entry.fd, entry.name, flags));
}

long act_rmdir(struct keeper *keeper, struct act *act)
{
	return remove_entry(keeper, act, LL_FS_REMOVE_DIR, AT_REMOVEDIR);
}

long act_unlink(struct keeper *keeper, struct act *act)
{
	return remove_entry(keeper, act, LL_FS_REMOVE_FILE, 0);
}

/* The act's value as a string. */
static int copy_value(const struct act *act, char ret_text[PATH_MAX])
{
	if (act->head.value >= PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(ret_text, act->value, act->head.value);
	ret_text[act->head.value] = '\0';
	return strlen(ret_text) == act->head.value ? 0 : -EINVAL;
}

long act_symlink(struct keeper *keeper, struct act *act)
{
	cleanup_entry struct entry entry = {.fd = -1};
	char target[PATH_MAX];
	int r = find_entry(keeper, act->directory_fd, act->path, &entry);

	if (r == 0)
		r = judge(&entry.rights, LL_FS_MAKE_SYM);
	if (r == 0)
		r = copy_value(act, target);
	return r < 0 ? r : result_of(symlinkat(target, entry.fd, entry.name));
}

long act_link(struct keeper *keeper, struct act *act)
{
	cleanup_entry struct entry entry = {.fd = -1};
	cleanup_close int fd = -1;
	struct rights rights;
	char path[PATH_MAX], link[32];
	int r = copy_value(act, path);

	if (r == 0)
		r = find_entry(keeper, act->other_fd, path, &entry);
	if (r == 0)
		r = pin_file(act, !(act->flags & SG_ACT_NOFOLLOW), &fd);
	if (r == 0)
		r = find_rights(keeper->grants, fd, &rights);
	if (r < 0)
		return r == -ENOENT ? LEAVE : r;
	r = judge_two(&rights, LL_FS_REFER, &entry.rights, LL_FS_REFER | LL_FS_MAKE_REG);
	if (r < 0)
		return r;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return result_of(linkat(AT_FDCWD, link, entry.fd, entry.name, AT_SYMLINK_FOLLOW));
}

long act_rename(struct keeper *keeper, struct act *act)
{
	cleanup_entry struct entry from = {.fd = -1}, to = {.fd = -1};
	bool is_directory = false, replaces_directory = false;
	uint64_t leave, arrive;
	char path[PATH_MAX];
	int r = copy_value(act, path);

	if (r == 0)
		r = act->head.options & ~RENAME_FLAGS ? LEAVE : 0;
	if (r == 0)
		r = find_entry(keeper, act->directory_fd, act->path, &from);
	if (r == 0)
		r = find_entry(keeper, act->other_fd, path, &to);
	if (r == 0)
		r = look_at_entry(keeper, &from, &is_directory);
	if (r < 0)
		return r == -ENOENT ? LEAVE : r;
	r = look_at_entry(keeper, &to, &replaces_directory);
	if (r < 0 && r != -ENOENT)
		return r;
	/* As in one directory too, which the kernel asks for less in: what is granted here is granted as a whole. */
	leave = LL_FS_REFER | (is_directory ? LL_FS_REMOVE_DIR : LL_FS_REMOVE_FILE);
	arrive = LL_FS_REFER | (is_directory ? LL_FS_MAKE_DIR : LL_FS_MAKE_REG);
	if (r == 0)
		arrive |= replaces_directory ? LL_FS_REMOVE_DIR : LL_FS_REMOVE_FILE;
	r = judge_two(&from.rights, leave, &to.rights, arrive);
	if (r < 0)
		return r;
	return result_of(syscall(SYS_renameat2, from.fd, from.name, to.fd, to.name, act->head.options));
}

long act_truncate(struct keeper *keeper, struct act *act)
{
	cleanup_close int fd = -1;
	struct rights rights;
	char link[32];
	int r = pin_file(act, true, &fd);

	if (r == 0)
		r = find_rights(keeper->grants, fd, &rights);
	if (r < 0)
		return r == -ENOENT ? LEAVE : r;
	r = judge(&rights, LL_FS_TRUNCATE);
	if (r < 0)
		return r;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return result_of(truncate(link, act->head.times[0]));
}
