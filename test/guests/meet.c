// SPDX-License-Identifier: Apache-2.0
/*
 * Listens on an abstract Unix socket, prints "ready", and then "met" for each client that comes.
 *   meet NAME
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
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (fd < 0 || strlen(name) >= sizeof(address.sun_path) - 1) {
		perror("meet");
		return 1;
	}
	memcpy(address.sun_path + 1, name, strlen(name));
	if (bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)) < 0 ||
	    listen(fd, 16) < 0) {
		perror("meet");
		return 1;
	}
	puts("ready");
	for (;;) {
		int client = accept(fd, NULL, NULL);

		if (client < 0)
			return 1;
		puts("met");
		close(client);
	}
}
