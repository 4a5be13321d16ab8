/* A slower disk: every sync call takes 2 ms longer. Preloaded into a measured process (LD_PRELOAD), it is the
 * same for every system, whichever SQLite library that system brings. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

static int slower(const char *name, int file)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    usleep(2000);
    return next(file);
}

int fsync(int file) { return slower("fsync", file); }
int fdatasync(int file) { return slower("fdatasync", file); }
