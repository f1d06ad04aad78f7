/* The script of the benchmark: says when its first instruction ran.
 *
 * arrived FIFO ... TOKEN: reads the monotonic clock, then appends one record of 32 bytes to the FIFO: the nanoseconds
 * (8 bytes, native), then the last argument, cut to 24 bytes and padded with zeros. Static and without a C library, so
 * that starting it costs as little as starting a program can. Never blocks: without a reader the record is lost.
 */

enum { MONOTONIC = 1, WRITE_ONLY_NONBLOCK = 01 | 04000, HERE = -100, TOKEN_MAX = 24 };

struct time { long seconds, nanoseconds; };
struct record { unsigned long nanoseconds; char token[TOKEN_MAX]; };

#ifdef __x86_64__
enum { SYS_write = 1, SYS_exit_group = 231, SYS_clock_gettime = 228, SYS_openat = 257 };

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall arrived\n");

static long call(long number, long a, long b, long c, long d)
{
    long result;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return result;
}
#else
#error "no system calls for this processor yet: see call()"
#endif

/* The stack at the start of a process: argc, then argv. */
__attribute__((used, noreturn)) void arrived(const long *stack)
{
    struct time now;
    call(SYS_clock_gettime, MONOTONIC, (long)&now, 0, 0);

    long arguments = stack[0];
    const char *const *argument = (const char *const *)(stack + 1);
    struct record record = { 0 };
    record.nanoseconds = (unsigned long)now.seconds * 1000000000UL + (unsigned long)now.nanoseconds;
    if (arguments > 2) {
        const char *token = argument[arguments - 1];
        for (int at = 0; at < TOKEN_MAX && token[at]; at++)
            record.token[at] = token[at];
        long fifo = call(SYS_openat, HERE, (long)argument[1], WRITE_ONLY_NONBLOCK, 0);
        call(SYS_write, fifo, (long)&record, sizeof record, 0);
    }
    for (;;)
        call(SYS_exit_group, 0, 0, 0, 0);
}
