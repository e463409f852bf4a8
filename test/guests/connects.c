// SPDX-License-Identifier: Apache-2.0
/*
 * What connect(2) to 127.0.0.1 says, one word a call, in the ways in which programs use it.
 *   states PORT FULL      a non-blocking connect, its end, and again; one to a port that answers no more, and again
 *   timeout FULL          a blocking one with SO_SNDTIMEO, and again
 *   alarm FULL            a blocking one that a signal interrupts
 *   restart FULL          likewise with SA_RESTART: ended by its third alarm
 *   again PORT OTHER      connect, dissolve with AF_UNSPEC, connect to OTHER with the same socket
 *   shapes PORT           addresses of odd lengths and of other families, descriptors that are no socket
 *   race-family PORT COUNT [once]   until it was reached once, or COUNT times: connects to PORT of 127.0.0.2 while a thread flips the family to AF_UNSPEC and back
 *   bind HOST PORT        binds a TCP socket and listens; of udp://HOST a UDP one, which it binds only
 *   bind-odd PORT         the unspecified family, short and long addresses, families that are not the socket's
 *   listen-again PORT COUNT   connects and listens with one socket, which a thread dissolves all the time
 *   race-socket PORT COUNT    connects while a thread exchanges the socket for what is none, and back
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static struct sockaddr_in to(const char *host, const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

	inet_pton(AF_INET, host, &address.sin_addr);
	return address;
}

static int make_socket(int flags)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

static void say(int fd, const void *address, socklen_t length)
{
	printf("%s ", connect(fd, address, length) < 0 ? strerrorname_np(errno) : "ok");
}

static void say_to(int fd, const char *port)
{
	struct sockaddr_in address = to("127.0.0.1", port);

	say(fd, &address, sizeof(address));
}

static int states(char **arguments)
{
	int fd = make_socket(SOCK_NONBLOCK), full = make_socket(SOCK_NONBLOCK);
	struct pollfd done = { .fd = fd, .events = POLLOUT };

	say_to(fd, arguments[0]);
	poll(&done, 1, -1);
	say_to(fd, arguments[0]);
	say_to(fd, arguments[0]);
	say_to(full, arguments[1]);
	say_to(full, arguments[1]);
	return 0;
}

static int time_out(char **arguments)
{
	struct timeval bound = { .tv_usec = 100000 };
	int fd = make_socket(0);

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound));
	say_to(fd, arguments[0]);
	say_to(fd, arguments[0]);
	return 0;
}

static volatile sig_atomic_t alarms;
static int last_alarm;

static void on_alarm(int number)
{
	(void)number;
	if (++alarms == last_alarm) {
		(void)!write(1, "restarted", 9);
		_exit(0);
	}
}

static int wait_for_alarm(char **arguments, int flags)
{
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = flags };
	struct itimerval often = { .it_value.tv_usec = 50000, .it_interval.tv_usec = 50000 };
	int fd = make_socket(0);

	last_alarm = flags & SA_RESTART ? 3 : 0;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	say_to(fd, arguments[0]);
	return 0;
}

static int again(char **arguments)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };
	int fd = make_socket(0);

	say_to(fd, arguments[0]);
	say_to(fd, arguments[0]);
	say(fd, &none, sizeof(none));
	say_to(fd, arguments[1]);
	return 0;
}

static int shapes(char **arguments)
{
	struct sockaddr_storage room = { 0 };
	struct sockaddr_in address = to("127.0.0.1", arguments[0]);
	struct sockaddr_in6 other = { .sin6_family = AF_INET6, .sin6_port = address.sin_port,
				      .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	static const socklen_t lengths[] = { 0, 1, 2, 8, 15, 16, 17, 28, 128, 129, 4096, (socklen_t)-1 };
	int pipes[2];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		int fd = make_socket(0);

		memcpy(&room, &address, sizeof(address));
		say(fd, &room, lengths[i]);
		close(fd);
	}
	say(make_socket(0), &other, sizeof(other));
	room.ss_family = 77;
	say(make_socket(0), &room, sizeof(room));
	room.ss_family = AF_UNSPEC;
	say(make_socket(0), &room, 2);
	say(make_socket(0), NULL, 16);
	say(make_socket(0), (void *)8, 16);
	say(-1, &address, sizeof(address));
	say(999, &address, sizeof(address));
	if (pipe(pipes) == 0)
		say(pipes[0], &address, sizeof(address));
	return 0;
}

static int bind_one(char **arguments)
{
	int is_udp = strncmp(arguments[0], "udp://", 6) == 0;
	const char *host = arguments[0] + (is_udp ? 6 : 0);
	struct sockaddr_in address = to(host, arguments[1]);
	struct sockaddr_in6 longer = { .sin6_family = AF_INET6, .sin6_port = address.sin_port };
	int is_long = inet_pton(AF_INET6, host, &longer.sin6_addr) == 1;
	int fd = socket(is_long ? AF_INET6 : AF_INET, is_udp ? SOCK_DGRAM : SOCK_STREAM, 0);
	int r = fd < 0 ? -1
	      : is_long ? bind(fd, (struct sockaddr *)&longer, sizeof(longer))
			: bind(fd, (struct sockaddr *)&address, sizeof(address));

	if (r == 0 && !is_udp)
		r = listen(fd, 1);
	printf("%s", r < 0 ? strerrorname_np(errno) : "ok");
	return 0;
}

static int bind_odd(char **arguments)
{
	struct sockaddr_storage room = { 0 };
	struct sockaddr_in any = to("0.0.0.0", arguments[0]), one = to("127.0.0.1", arguments[0]);
	static const socklen_t lengths[] = { 0, 2, 15, 16, 128, 129 };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		int fd = make_socket(0);

		memcpy(&room, &one, sizeof(one));
		printf("%s ", bind(fd, (struct sockaddr *)&room, lengths[i]) < 0 ? strerrorname_np(errno) : "ok");
		close(fd);
	}
	any.sin_family = AF_UNSPEC;
	one.sin_family = AF_UNSPEC;
	for (int i = 0; i < 2; i++) {
		int fd = make_socket(0);

		printf("%s ", bind(fd, (struct sockaddr *)(i ? &one : &any), sizeof(any)) < 0 ? strerrorname_np(errno) : "ok");
		close(fd);
	}
	printf("%s", listen(make_socket(0), 1) < 0 ? strerrorname_np(errno) : "ok");
	return 0;
}

static struct {
	atomic_int stop;
	volatile struct sockaddr_in address;
	volatile int fd;
	int sockets[2];
} shared;

static void *flip_family(void *unused)
{
	while (!atomic_load(&shared.stop)) {
		shared.address.sin_family = AF_UNSPEC;
		shared.address.sin_family = AF_INET;
	}
	return unused;
}

static int race_family(char **arguments)
{
	struct sockaddr_in address = to("127.0.0.2", arguments[0]);
	int count = atoi(arguments[1]), reached = 0, refused = 0;
	int enough = arguments[2] ? 1 : count;
	pthread_t thread;

	memcpy((void *)&shared.address, &address, sizeof(address));
	pthread_create(&thread, NULL, flip_family, NULL);
	for (int i = 0; i < count && reached < enough; i++) {
		struct sockaddr_in peer;
		socklen_t length = sizeof(peer);
		int fd = make_socket(0);

		if (connect(fd, (struct sockaddr *)&shared.address, sizeof(address)) < 0)
			refused++;
		else if (getpeername(fd, (struct sockaddr *)&peer, &length) == 0)
			reached++;
		close(fd);
	}
	atomic_store(&shared.stop, 1);
	pthread_join(thread, NULL);
	printf("reached %d refused %d", reached, refused);
	return 0;
}

/* The descriptor is at one moment a fresh socket, at the next one of a family that the policy does not know. */
static void *swap_socket(void *unused)
{
	while (!atomic_load(&shared.stop)) {
		dup2(shared.sockets[1], shared.fd);
		dup2(shared.sockets[0], shared.fd);
	}
	return unused;
}

static void *dissolve(void *unused)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	while (!atomic_load(&shared.stop))
		connect(shared.fd, &none, sizeof(none));
	return unused;
}

/* A connect gives the socket a local port, which is gone when it is dissolved. None is ever listened on. */
static int listen_again(char **arguments)
{
	int count = atoi(arguments[1]), listening = 0;
	struct sockaddr_in address = to("127.0.0.1", arguments[0]);
	pthread_t thread;

	shared.fd = make_socket(0);
	pthread_create(&thread, NULL, dissolve, NULL);
	for (int i = 0; i < count; i++) {
		int accepts = 0;
		socklen_t size = sizeof(accepts);

		connect(shared.fd, (struct sockaddr *)&address, sizeof(address));
		if (listen(shared.fd, 1) == 0 && getsockopt(shared.fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) == 0)
			listening += accepts;
	}
	atomic_store(&shared.stop, 1);
	pthread_join(thread, NULL);
	printf("listening %d", listening);
	return 0;
}

static int race_socket(char **arguments)
{
	struct sockaddr_in address = to("127.0.0.1", arguments[0]);
	int count = atoi(arguments[1]), wrong = 0;
	pthread_t thread;

	shared.fd = make_socket(0);
	shared.sockets[0] = make_socket(0);
	shared.sockets[1] = open("/dev/null", O_RDWR);
	pthread_create(&thread, NULL, swap_socket, NULL);
	for (int i = 0; i < count; i++)
		if (connect(shared.fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != ENOTSOCK &&
		    errno != EISCONN && errno != ECONNREFUSED)
			wrong++;
	atomic_store(&shared.stop, 1);
	pthread_join(thread, NULL);
	printf("wrong %d", wrong);
	return 0;
}

int main(int argc, char **argv)
{
	const char *act = argc > 1 ? argv[1] : "";
	int result = 2;

	if (argc == 4 && strcmp(act, "states") == 0)
		result = states(argv + 2);
	else if (argc == 3 && strcmp(act, "timeout") == 0)
		result = time_out(argv + 2);
	else if (argc == 3 && strcmp(act, "alarm") == 0)
		result = wait_for_alarm(argv + 2, 0);
	else if (argc == 3 && strcmp(act, "restart") == 0)
		result = wait_for_alarm(argv + 2, SA_RESTART);
	else if (argc == 4 && strcmp(act, "again") == 0)
		result = again(argv + 2);
	else if (argc == 3 && strcmp(act, "shapes") == 0)
		result = shapes(argv + 2);
	else if (argc >= 4 && strcmp(act, "race-family") == 0)
		result = race_family(argv + 2);
	else if (argc == 4 && strcmp(act, "bind") == 0)
		result = bind_one(argv + 2);
	else if (argc == 3 && strcmp(act, "bind-odd") == 0)
		result = bind_odd(argv + 2);
	else if (argc == 4 && strcmp(act, "listen-again") == 0)
		result = listen_again(argv + 2);
	else if (argc == 4 && strcmp(act, "race-socket") == 0)
		result = race_socket(argv + 2);
	puts("");
	return result;
}
