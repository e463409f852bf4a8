// SPDX-License-Identifier: Apache-2.0
/*
 * Listens on a Unix socket, prints "ready", and then "met" for each client that comes.
 *   meet NAME            a stream socket of that name in the abstract namespace
 *   meet PATH datagram   a datagram socket at that path
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *name = argc > 1 ? argv[1] : "";
	int datagrams = argc > 2 && strcmp(argv[2], "datagram") == 0;
	int fd = socket(AF_UNIX, (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	/* A path ends with a NUL, and an abstract name begins with one. */
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (fd < 0 || strlen(name) >= sizeof(address.sun_path) - 1) {
		perror("meet");
		return 1;
	}
	memcpy(address.sun_path + (datagrams ? 0 : 1), name, strlen(name));
	if (bind(fd, (struct sockaddr *)&address, length) < 0 || (!datagrams && listen(fd, 16) < 0)) {
		perror("meet");
		return 1;
	}
	puts("ready");
	for (;;) {
		char byte;
		int client = datagrams ? (int)recv(fd, &byte, 1, 0) : accept(fd, NULL, NULL);

		if (client < 0)
			return 1;
		puts("met");
		if (!datagrams)
			close(client);
	}
}
