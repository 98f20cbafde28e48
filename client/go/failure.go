package tilestream

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Failure is what all errors of a session and of a call have in common. errors.As finds it in every
// one of them; the types around it say what happened and what to do.
type Failure struct {
	// Message is for people.
	Message string
	// Code is the gRPC status; codes.OK where none was involved.
	Code codes.Code
	// RetryAfter is when the server wants to be asked again. 0: at once, or it did not say.
	RetryAfter time.Duration
	// Unanswered are the ids of the frames that were sent and get no answer.
	Unanswered []uint64
	// Unsent are the ids of the frames that Send took and that were not sent.
	Unsent []uint64

	cause error
}

// Error is the message.
func (f *Failure) Error() string { return f.Message }

// Unwrap is what caused it, such as context.Canceled; nil where there is nothing to tell.
func (f *Failure) Unwrap() error { return f.cause }

func (f *Failure) failure() *Failure { return f }

// failer is any of this package's errors.
type failer interface {
	error
	failure() *Failure
}

// ConnectionFailedError says that the server could not be reached or did not answer. Check the address and that it
// runs.
type ConnectionFailedError struct{ Failure }

// Unwrap lets errors.As find the Failure.
func (e *ConnectionFailedError) Unwrap() error { return &e.Failure }

// TLSFailedError says that client and server do not agree on TLS: what is wrong with which, and what to do. It is a
// ConnectionFailedError as well.
type TLSFailedError struct{ ConnectionFailedError }

// Unwrap lets errors.As find the ConnectionFailedError.
func (e *TLSFailedError) Unwrap() error { return &e.ConnectionFailedError }

// AccessDeniedError says that the server does not know or does not accept the credentials.
type AccessDeniedError struct{ Failure }

// Unwrap lets errors.As find the Failure.
func (e *AccessDeniedError) Unwrap() error { return &e.Failure }

// FieldError is one wrong option: its name in the API, and what is wrong with it and allowed instead.
type FieldError struct{ Field, Problem string }

// InvalidConfigError says that the server refuses the options of a session; Fields says which and why.
type InvalidConfigError struct {
	Failure
	Fields []FieldError
}

// Unwrap lets errors.As find the Failure.
func (e *InvalidConfigError) Unwrap() error { return &e.Failure }

// ServerBusyError says that the server takes no more sessions now; try again after RetryAfter.
type ServerBusyError struct{ Failure }

// Unwrap lets errors.As find the Failure.
func (e *ServerBusyError) Unwrap() error { return &e.Failure }

// ServerDrainingError says that the server ends its sessions (shutdown, or the session's age); open a new one after
// RetryAfter. It is a ServerBusyError as well.
type ServerDrainingError struct{ ServerBusyError }

// Unwrap lets errors.As find the ServerBusyError.
func (e *ServerDrainingError) Unwrap() error { return &e.ServerBusyError }

// ServerFaultError says that the server has a fault.
type ServerFaultError struct{ Failure }

// Unwrap lets errors.As find the Failure.
func (e *ServerFaultError) Unwrap() error { return &e.Failure }

// SessionClosedError says that the session is over before its frames were: idle for too long, resumed by another
// stream, ended by the server, or closed here.
type SessionClosedError struct{ Failure }

// Unwrap lets errors.As find the Failure.
func (e *SessionClosedError) Unwrap() error { return &e.Failure }

// ConnectionLostError says that the session broke off and could not be opened again in time. It is a
// SessionClosedError as well. Open a new session and send from the first frame without an answer.
type ConnectionLostError struct{ SessionClosedError }

// Unwrap lets errors.As find the SessionClosedError.
func (e *ConnectionLostError) Unwrap() error { return &e.SessionClosedError }

// MessageTooLargeError says that a message is above the limit. Send smaller frames, or ask for smaller masks.
type MessageTooLargeError struct{ Failure }

// Unwrap lets errors.As find the Failure.
func (e *MessageTooLargeError) Unwrap() error { return &e.Failure }

// ProtocolError says that client and server do not speak the same language: a fault of one of them, or versions too
// far apart.
type ProtocolError struct{ Failure }

// Unwrap lets errors.As find the Failure.
func (e *ProtocolError) Unwrap() error { return &e.Failure }

// SourceError says that frames cannot be read or are of a kind that cannot be sent.
type SourceError struct{ Failure }

// Unwrap lets errors.As find the Failure.
func (e *SourceError) Unwrap() error { return &e.Failure }

// MaskError says that an answer holds no mask, or one that cannot be decoded.
type MaskError struct{ Failure }

// Unwrap lets errors.As find the Failure.
func (e *MaskError) Unwrap() error { return &e.Failure }

func sessionClosed(text string, cause error) *SessionClosedError {
	return &SessionClosedError{Failure{Message: text, cause: cause}}
}

func connectionFailed(text string) *ConnectionFailedError {
	return &ConnectionFailedError{Failure{Message: text}}
}

func connectionLost(failure Failure) *ConnectionLostError {
	return &ConnectionLostError{SessionClosedError{failure}}
}

func serverDraining(failure Failure) *ServerDrainingError {
	return &ServerDrainingError{ServerBusyError{failure}}
}

func protocolError(format string, args ...any) *ProtocolError {
	return &ProtocolError{Failure{Message: fmt.Sprintf(format, args...)}}
}

func maskError(format string, args ...any) *MaskError {
	return &MaskError{Failure{Message: fmt.Sprintf(format, args...)}}
}

func sourceError(cause error, format string, args ...any) *SourceError {
	return &SourceError{Failure{Message: fmt.Sprintf(format, args...), cause: cause}}
}

// callStatus is a gRPC status with its details unpacked.
type callStatus struct {
	Failure
	saysWhen bool // the server gave a delay, be it 0
	fields   []FieldError
	reason   string
}

// fromStatus is the error for a call that ended with a status other than OK. started: the call was a stream whose
// session was open, so there is something to lose.
func fromStatus(err error, target string, started bool) error {
	read := readStatus(err)
	made := commonError(read, target)
	if made == nil && started {
		made = streamError(read, target)
	} else if made == nil {
		made = callError(read, target)
	}
	switch made := made.(type) {
	case *ConnectionFailedError:
		made.Message += throughProxy(target)
	case *ConnectionLostError:
		made.Message += throughProxy(target)
	case *ProtocolError:
		made.Message += throughProxy(target)
	}
	return made
}

// commonError is what means the same before and within a session; nil for all else.
func commonError(read callStatus, target string) error {
	said, failure := read.Message, read.Failure
	switch read.Code {
	case codes.InvalidArgument:
		problems := make([]string, 0, len(read.fields))
		for _, field := range read.fields {
			problems = append(problems, field.Field+": "+field.Problem)
		}
		if len(problems) > 0 {
			failure.Message = strings.Join(problems, "; ")
		}
		return &InvalidConfigError{failure, read.fields}
	case codes.Unauthenticated, codes.PermissionDenied:
		failure.Message = fmt.Sprintf("%s refuses the credentials: %s", target, said)
		return &AccessDeniedError{failure}
	case codes.FailedPrecondition, codes.Unimplemented:
		failure.Message = fmt.Sprintf("%s does not understand this client: %s", target, said)
		return &ProtocolError{failure}
	case codes.Unavailable:
		if !read.saysWhen {
			return nil
		}
		failure.Message = fmt.Sprintf("%s ends its sessions%s: %s", target, when(read), said)
		return serverDraining(failure)
	case codes.ResourceExhausted:
		if isAboutSize(read) {
			failure.Message = "a message is above the limit: " + said
			return &MessageTooLargeError{failure}
		}
		state := map[string]string{"FULL": "is full", "OVERLOADED": "is overloaded"}[read.reason]
		if state == "" {
			state = "takes no more sessions"
		}
		failure.Message = fmt.Sprintf("%s %s%s: %s", target, state, when(read), said)
		return &ServerBusyError{failure}
	}
	return nil
}

func streamError(read callStatus, target string) error {
	failure := read.Failure
	switch read.Code {
	case codes.DeadlineExceeded:
		failure.Message = fmt.Sprintf("%s closed the idle session: %s", target, read.Message)
		return &SessionClosedError{failure}
	case codes.Unavailable, codes.Internal, codes.Canceled, codes.Unknown: // a proxy whose backend died says any of these
		failure.Message = fmt.Sprintf("the stream to %s broke off (%s): %s", target, read.Code, read.Message)
		return connectionLost(failure)
	}
	failure.Message = fmt.Sprintf("%s ended the stream (%s): %s", target, read.Code, read.Message)
	return &SessionClosedError{failure}
}

func callError(read callStatus, target string) error {
	failure := read.Failure
	switch read.Code {
	case codes.Unavailable:
		failure.Message = fmt.Sprintf("cannot reach %s, is the server running there? (%s)", target, read.Message)
		return &ConnectionFailedError{failure}
	case codes.DeadlineExceeded:
		failure.Message = fmt.Sprintf("%s did not answer in time", target)
		return &ConnectionFailedError{failure}
	}
	failure.Message = fmt.Sprintf("%s failed (%s): %s", target, read.Code, read.Message)
	return &ServerFaultError{failure}
}

func readStatus(err error) callStatus {
	told := status.Convert(err)
	read := callStatus{Failure: Failure{Code: told.Code(), Message: oneLine(told.Message())}}
	if read.Message == "" {
		read.Message = "no reason given"
	}
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.RetryInfo:
			read.RetryAfter, read.saysWhen = detail.GetRetryDelay().AsDuration(), true
		case *errdetails.ErrorInfo:
			read.reason = detail.GetReason()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				name := strings.TrimPrefix(violation.GetField(), "config.")
				read.fields = append(read.fields, FieldError{name, violation.GetDescription()})
			}
		}
	}
	return read
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// isAboutSize: on either side gRPC words it "received message larger than max"; the server gives no delay for it.
func isAboutSize(read callStatus) bool {
	text := strings.ToLower(read.Message)
	aboutLimit := strings.Contains(text, "limit") && strings.Contains(text, "message")
	return !read.saysWhen && (strings.Contains(text, "larger than") || aboutLimit)
}

func when(read callStatus) string {
	if !read.saysWhen {
		return ""
	}
	return fmt.Sprintf(" (try again in %s)", read.RetryAfter)
}
