// Makes calls to the system fail, to see what a program does about it. A test links this and sets faults itself;
// another program is started with LD_PRELOAD=fault_preload.so, and the faults in its environment.
//
// A fault is WHAT:CALLS:PATH[:AFTER[:TIMES]], several are separated by ";":
//   WHAT   the error, such as ENOSPC, EIO or EROFS; SIGKILL, which ends the process in place of the call; SLEEP20,
//          after whose 20 ms the call is made; or SKIP, of fsync alone, which then succeeds and costs no time
//   CALLS  some of open (for writing), write, fsync, rename, mkdir, symlink, remove and read, separated by ","
//   PATH   a part of the path that the call is about, as it was given, or as the system knows an open file; the new one
//          of a rename
//   AFTER  what succeeds before: bytes of write and read, whose last call is cut short; calls of the others. Default 0
//   TIMES  how often it happens. Default 0: from then on always
// The first that applies counts. Each process counts by itself. What the C library writes for a FILE is not seen, only
// that it is opened. "ENOSPC:write:/checkpoints/:100000" is a disk that is full after 100 kB of checkpoints.
#ifndef GRATICULE_TESTS_FAULTS_SHIM_FAULT_SHIM_H_
#define GRATICULE_TESTS_FAULTS_SHIM_FAULT_SHIM_H_

#include <string>

namespace graticule {

// In the environment of a program.
inline constexpr char kFaultVariable[] = "GRATICULE_FAULT";

// Replaces all faults; an empty text for none. A wrong one ends the program.
void SetFaults(const std::string& faults);

// How many calls have failed since SetFaults.
int FaultCount();

}  // namespace graticule

#endif  // GRATICULE_TESTS_FAULTS_SHIM_FAULT_SHIM_H_
