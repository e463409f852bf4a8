/* SPDX-License-Identifier: Apache-2.0 */
/* Trees of mounts, by descriptors: what can be mounted somewhere, or is. open_tree(2), move_mount(2), fsopen(2). */
#ifndef SANDGATE_TREE_H
#define SANDGATE_TREE_H

#include <stddef.h>
#include <stdint.h>

/* A tree of its own with what is at (directory, path); `flags` as of open_tree(2). Returns a descriptor. */
int clone_tree(int directory_fd, const char *path, unsigned int flags);

/* A new file system that is mounted nowhere yet. `options`: name=value, separated by commas. Returns its tree. */
int new_filesystem(const char *type, const char *options, size_t length, unsigned int attributes);

/* Sets attributes of a tree's first mount; with TREE_RECURSIVE of all. */
int set_attributes(int tree_fd, uint64_t attributes, unsigned int flags);

/* Mounts a tree over (directory, path), following links, or with an empty path over the descriptor itself. */
int place_tree(int tree_fd, int directory_fd, const char *path);

#endif
