/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does one thing, named by its first argument, and says how that went in one word on stdout: "ok" or
 * the name of the errno. It exits with 0 after "ok" and 1 after an errno. Acts that report facts print those instead.
 */
#ifndef ACT_H
#define ACT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

struct act {
	const char *name;
	/* Arguments that it needs at least. */
	int arguments;
	/* Gets its own arguments and their number. Returns the exit code. */
	int (*run)(int count, char **arguments);
};

/* Each ends with an entry without a name. */
extern const struct act file_acts[];
extern const struct act network_acts[];
extern const struct act process_acts[];
extern const struct act kernel_acts[];
extern const struct act inspect_acts[];
extern const struct act burst_acts[];
extern const struct act memory_acts[];
extern const struct act alias_acts[];
extern const struct act metadata_acts[];
extern const struct act attribute_acts[];

/* Prints "ok", or the name of errno when the result is negative. Returns the exit code. */
int report(long result);

/* Prints a word of its own, as for a result that is wrong. Returns the exit code of a failure. */
int report_word(const char *word);

#endif
