/* SPDX-License-Identifier: Apache-2.0 */
/* Packets with descriptors on SOCK_SEQPACKET sockets, and descriptors that close themselves. */
#ifndef SANDGATE_WIRE_H
#define SANDGATE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../abi.h"

/* Closes *fd unless it is negative, keeps errno, and makes it -1. */
void close_fd(int *fd);
#define cleanup_close __attribute__((cleanup(close_fd)))

/* What came with the bytes of a packet. Unused fds are -1. */
struct packet {
	int fds[SG_MAX_SENT_FDS];
	unsigned int fd_count;
	pid_t pid;   /* the sender's, where the socket has SO_PASSCRED; else 0 */
	size_t size; /* bytes stored */
	bool cut;    /* bytes or descriptors did not fit; the descriptors were closed */
};

/* Sends one packet. Returns 0 or a negative errno; the descriptors stay the caller's. */
int send_packet(int socket_fd, const void *bytes, size_t size, const int *fds, unsigned int fd_count,
		int flags);

/*
 * Receives one packet; its descriptors are close-on-exec and the caller's.
 * Returns 1, 0 at the end of the connection, or a negative errno.
 */
int receive_packet(int socket_fd, void *buffer, size_t size, int flags, struct packet *ret_packet);

/* Closes what is left in packet->fds. */
void close_packet(struct packet *packet);

/* Takes one descriptor out of the packet; -1 when there is none at that index. */
int take_fd(struct packet *packet, unsigned int index);

/* A close-on-exec pair. With `credentials` what arrives at pair[0] carries the sender's pid. */
int make_socket_pair(int pair[2], bool credentials);

uint64_t monotonic_ns(void);

#endif
