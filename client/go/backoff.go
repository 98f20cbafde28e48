package tilestream

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// BackOff is exponential with full jitter: the n-th attempt to open a lost session again waits at random up to
// FirstDelay * 2^n, at most MaxDelay, and longer where the server says so.
type BackOff struct {
	// FirstDelay bounds the first wait. 0: 100 ms.
	FirstDelay time.Duration
	// MaxDelay bounds every wait. 0: 5 s.
	MaxDelay time.Duration
}

func (b BackOff) withDefaults() BackOff {
	if b.FirstDelay <= 0 {
		b.FirstDelay = 100 * time.Millisecond
	}
	if b.MaxDelay <= 0 {
		b.MaxDelay = 5 * time.Second
	}
	return b
}

// attempts are those of one session to come back.
type attempts struct {
	delays  BackOff
	timeout time.Duration // after which an outage is given up; 0: a lost session is not opened again
	clock   func() time.Time
	jitter  func() float64 // 0..1

	outageBegan time.Time // zero: there is none
	firstError  error
	count       int
	openedAt    time.Time
}

func newAttempts(delays BackOff, timeout time.Duration, clock func() time.Time) attempts {
	return attempts{
		delays: delays.withDefaults(), timeout: max(0, timeout), clock: clock, jitter: rand.Float64, openedAt: clock(),
	}
}

func (a *attempts) enabled() bool { return a.timeout > 0 }

// opened: a session is open. The outage is over once it proves to work.
func (a *attempts) opened() { a.openedAt = a.clock() }

// works: the session has brought a result, so the next loss is a new outage.
func (a *attempts) works() { a.outageBegan = time.Time{} }

// retryAt is when to try again after err; false: not at all. openBefore: the call that ended had opened a session.
func (a *attempts) retryAt(err error, openBefore bool) (time.Time, bool) {
	if !a.enabled() || !passes(err) {
		return time.Time{}, false
	}
	now := a.clock()
	if a.outageBegan.IsZero() || (openBefore && now.Sub(a.openedAt) > a.delays.MaxDelay) {
		a.outageBegan, a.count, a.firstError = now, 0, err
	}
	ceiling := a.delays.MaxDelay
	if a.count < 30 {
		ceiling = min(ceiling, a.delays.FirstDelay<<a.count)
	}
	if ceiling <= 0 { // the shift went over
		ceiling = a.delays.MaxDelay
	}
	at := now.Add(failureOf(err).RetryAfter + time.Duration(a.jitter()*float64(ceiling)))
	if at.After(a.outageBegan.Add(a.timeout)) {
		return time.Time{}, false
	}
	a.count++
	return at, true
}

// explained is err, which ended the attempts, with what was tried.
func (a *attempts) explained(err error) error {
	if a.outageBegan.IsZero() || a.count == 0 || !passes(err) {
		return err
	}
	text := fmt.Sprintf("%s; tried to come back %d times in %s", a.firstError, a.count, a.timeout)
	if err.Error() != a.firstError.Error() {
		text += ", at last: " + err.Error()
	}
	last := failureOf(err)
	return connectionLost(Failure{Message: text, Code: last.Code, RetryAfter: last.RetryAfter, cause: err})
}

// passes: whether another attempt may succeed. A draining server is a busy one; a proxy reports a backend that
// died as INTERNAL or CANCELLED.
func passes(err error) bool {
	var (
		failed *ConnectionFailedError
		lost   *ConnectionLostError
		busy   *ServerBusyError
		fault  *ServerFaultError
	)
	return errors.As(err, &failed) || errors.As(err, &lost) || errors.As(err, &busy) || errors.As(err, &fault)
}

// failureOf is the Failure of any of this package's errors, else an empty one.
func failureOf(err error) *Failure {
	var failure *Failure
	if errors.As(err, &failure) {
		return failure
	}
	return &Failure{}
}
