// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"

/* Whether execve would take the file at path: 0, or a negative errno. */
static int check_executable(const char *path)
{
	struct stat status;

	if (fstatat(AT_FDCWD, path, &status, 0) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EACCES;
	if (faccessat(AT_FDCWD, path, X_OK, 0) < 0)
		return -errno;
	return 0;
}

/* Joins one element of the search path and a name. An empty element is the working directory. */
static int join(const char *directory, size_t length, const char *name, char ret_path[PATH_MAX])
{
	size_t name_length = strlen(name);

	if (length + 1 + name_length + 1 > PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(ret_path, directory, length);
	if (length > 0)
		ret_path[length++] = '/';
	memcpy(ret_path + length, name, name_length + 1);
	return 0;
}

int find_program(const struct plan *plan, char ret_path[PATH_MAX])
{
	const char *name = plan->argv[0];
	const char *at = plan->search;
	const char *end = plan->search + plan->search_length;
	bool refused = false;

	if (name[0] == '\0')
		return -ENOENT;
	if (strlen(name) >= PATH_MAX)
		return -ENAMETOOLONG;
	if (strchr(name, '/') != NULL) {
		strcpy(ret_path, name);
		return check_executable(name);
	}
	while (at < end) {
		const char *colon = memchr(at, ':', (size_t)(end - at));
		const char *stop = colon != NULL ? colon : end;
		int r = join(at, (size_t)(stop - at), name, ret_path);

		if (r == 0)
			r = check_executable(ret_path);
		if (r == 0)
			return 0;
		if (r == -EACCES)
			refused = true;
		at = stop + 1;
	}
	return refused ? -EACCES : -ENOENT;
}
