// Command tilestream-stream sends frames to a tilestream server and writes the masks.
//
//	tilestream-stream -masks out/ frames/
//	ffmpeg -i drive.mp4 -f mjpeg -q:v 3 - | tilestream-stream -overlays out/ -json summary.json -
//	ffmpeg -i drive.mp4 -c copy -f h264 - | tilestream-stream -codec h264 -masks out/ -
//
// The source is a folder of JPEGs, a file of motion JPEG or of access units, or - for such on standard input. Ctrl-C sends no
// more frames and waits for the answers; a second one stops at once. Exit status: 0 fine, 1 failure, 2 wrong usage.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/color"
	"io"
	"iter"
	"os"
	"os/signal"
	"time"

	tilestream "github.com/tilestream/tilestream/client/go"
)

// job is what the command line asks for.
type job struct {
	server, source                 string
	masks, overlays, json, palette string
	limit                          int
	rate, alpha                    float64
	quiet                          bool
	options                        tilestream.SessionOptions
	reconnect                      time.Duration
	token                          string
	tls                            bool
	files                          tilestream.TLSFiles
}

func main() {
	job, err := parse(os.Args[1:])
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "tilestream-stream:", printable(err.Error()))
		}
		os.Exit(2)
	}
	if err := run(job); err != nil {
		fmt.Fprintln(os.Stderr, "tilestream-stream:", printable(err.Error()))
		os.Exit(1)
	}
}

func parse(words []string) (job, error) {
	var j job
	flags := flag.NewFlagSet("tilestream-stream", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: tilestream-stream [flags] FOLDER|FILE.mjpeg|FILE.h264|-")
		flags.PrintDefaults()
	}
	server := os.Getenv("TILESTREAM_SERVER")
	if server == "" {
		server = "localhost:50051"
	}
	flags.StringVar(&j.server, "server", server, "`HOST:PORT` of the server, or unix:/path (or TILESTREAM_SERVER)")
	flags.StringVar(&j.token, "token", os.Getenv("TILESTREAM_TOKEN"), "bearer `token` (or TILESTREAM_TOKEN)")
	flags.BoolVar(&j.tls, "tls", false, "encrypt; implied by the four flags that follow")
	flags.StringVar(&j.files.CA, "ca", "", "PEM `file` of the authorities to trust (default the system's)")
	flags.StringVar(&j.files.Certificate, "certificate", "", "PEM `file` of the certificate to show the server")
	flags.StringVar(&j.files.Key, "key", "", "PEM `file` of the certificate's key")
	flags.StringVar(&j.files.ServerName, "server-name", "", "`name` that the server's certificate has to have (default the one in -server)")
	flags.StringVar(&j.masks, "masks", "", "`folder` for the masks, palette PNGs")
	flags.StringVar(&j.overlays, "overlays", "", "`folder` for PNGs of the frames with the labels' colours over them")
	flags.StringVar(&j.json, "json", "", "`file` for a summary")
	flags.StringVar(&j.palette, "palette", "", "`file` with the colours to use, a line \"R G B name\" per label (default the model's)")
	flags.Float64Var(&j.alpha, "alpha", 0.5, "how much of the colours the overlays show, 0 to 1")
	flags.IntVar(&j.limit, "limit", 0, "stop after so many frames (default all)")
	flags.Float64Var(&j.rate, "fps", 0, "send so many frames a second, as a camera does (default as fast as they are taken)")
	flags.BoolVar(&j.quiet, "quiet", false, "no progress")
	flags.DurationVar(&j.reconnect, "reconnect-timeout", time.Minute, "give up a lost server after this; negative: at once")
	flags.StringVar(&j.options.Model, "model", "", "`name` of a model (default the server's)")
	flags.StringVar(&j.options.CameraID, "camera", "", "`name` of the camera")
	flags.IntVar(&j.options.FramesInFlight, "frames-in-flight", 0, "frames under way (default 2)")
	flags.Float64Var(&j.options.BlockBudget, "block-budget", 0, "share of the network that a frame may compute (default automatic)")
	flags.Func("encoding", "how masks travel: png, rle or raw (default png)", func(word string) error {
		return choose(word, &j.options.MaskEncoding, tilestream.EncodingPNG, tilestream.EncodingRLE, tilestream.EncodingRaw)
	})
	flags.Func("policy", "for frames that are too many: wait, drop_oldest or latest_only (default wait)", func(word string) error {
		return choose(word, &j.options.QueuePolicy, tilestream.PolicyWait, tilestream.PolicyDropOldest, tilestream.PolicyLatestOnly)
	})
	flags.Func("codec", "what the source holds: jpeg, or h264 or h265 as access units in Annex B (default jpeg)", func(word string) error {
		return choose(word, &j.options.FrameCodec, tilestream.CodecJPEG, tilestream.CodecH264, tilestream.CodecH265)
	})
	flags.IntVar(&j.options.Rotation, "rotation", 0, "`degrees` clockwise to turn frames by: 0, 90, 180 or 270")
	if err := flags.Parse(words); err != nil {
		return j, err
	}
	if j.overlays != "" && (j.isVideo() || j.options.Rotation != 0) {
		return j, errors.New("-overlays draws over JPEGs as they were sent: leave -codec and -rotation out")
	}
	if flags.NArg() != 1 {
		return j, errors.New("one source is needed: a folder of JPEGs, a motion JPEG, access units, or - for standard input")
	}
	j.source = flags.Arg(0)
	return j, nil
}

// isVideo: frames are access units.
func (j job) isVideo() bool {
	return j.options.FrameCodec == tilestream.CodecH264 || j.options.FrameCodec == tilestream.CodecH265
}

// cut are the frames of what a file or standard input holds.
func (j job) cut(source io.Reader) iter.Seq2[tilestream.Frame, error] {
	if j.isVideo() {
		return tilestream.AnnexBFrames(source, j.options.FrameCodec)
	}
	return tilestream.MJPEGFrames(source)
}

// choose sets value to the one of that name.
func choose[T fmt.Stringer](word string, value *T, choices ...T) error {
	for _, choice := range choices {
		if choice.String() == word {
			*value = choice
			return nil
		}
	}
	return fmt.Errorf("must be one of %v", choices)
}

func run(j job) (err error) {
	if err := j.checkPlaces(); err != nil {
		return err
	}
	out, err := newOutput(j)
	if err != nil {
		return err
	}
	frames, closeSource, err := j.frames()
	if err != nil {
		return err
	}
	defer closeSource()
	options := &tilestream.Options{ReconnectTimeout: j.reconnect}
	if j.token != "" {
		options.TokenSource = func(context.Context) (string, error) { return j.token, nil }
	}
	if j.tls || j.files != (tilestream.TLSFiles{}) {
		if options.TLS, err = tilestream.LoadTLS(j.files); err != nil {
			return err
		}
	}
	client, err := tilestream.New(j.server, options)
	if err != nil {
		return err
	}
	defer client.Close()
	tally := newTally()
	if j.json != "" {
		defer func() { err = errors.Join(err, writeJSON(j.json, tally.summary())) }()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // the second one ends the process
	return stream(ctx, j, client, frames, tally, out)
}

func stream(ctx context.Context, j job, client *tilestream.Client, frames iter.Seq2[tilestream.Frame, error], tally *tally, out *output) error {
	session, err := client.Open(context.WithoutCancel(ctx), &j.options)
	if err != nil {
		return err
	}
	defer session.Close()
	tally.begin(session)
	sent := make(chan error, 1)
	go func() { sent <- session.SendAll(context.WithoutCancel(ctx), until(ctx, frames)) }()
	for result, err := range session.Results() {
		if err != nil {
			return err
		}
		tally.add(result)
		if err := out.add(result); err != nil {
			return err
		}
		if !j.quiet {
			tally.show(os.Stderr)
		}
	}
	if !j.quiet {
		fmt.Fprintln(os.Stderr)
	}
	fmt.Println(tally)
	return <-sent
}

// frames opens the source.
func (j job) frames() (frames iter.Seq2[tilestream.Frame, error], closed func(), err error) {
	closed = func() {}
	if j.source == "-" {
		frames = j.cut(os.Stdin)
	} else if info, err := os.Stat(j.source); err != nil {
		return nil, nil, err
	} else if info.IsDir() {
		frames = tilestream.DirFrames(j.source)
	} else {
		file, err := os.Open(j.source)
		if err != nil {
			return nil, nil, err
		}
		frames, closed = j.cut(file), func() { file.Close() }
	}
	return paced(limited(frames, j.limit), j.rate), closed, nil
}

// limited are the first frames; 0: all.
func limited(frames iter.Seq2[tilestream.Frame, error], limit int) iter.Seq2[tilestream.Frame, error] {
	return func(yield func(tilestream.Frame, error) bool) {
		count := 0
		for frame, err := range frames {
			if !yield(frame, err) {
				return
			}
			if count++; count == limit {
				return
			}
		}
	}
}

// paced gives each frame when it is due; 0: at once.
func paced(frames iter.Seq2[tilestream.Frame, error], rate float64) iter.Seq2[tilestream.Frame, error] {
	if rate <= 0 {
		return frames
	}
	return func(yield func(tilestream.Frame, error) bool) {
		began, count := time.Now(), 0
		for frame, err := range frames {
			time.Sleep(time.Until(began.Add(time.Duration(float64(count) / rate * float64(time.Second)))))
			frame.CaptureTime = time.Now()
			if !yield(frame, err) {
				return
			}
			count++
		}
	}
}

// until are the frames up to the end of ctx.
func until(ctx context.Context, frames iter.Seq2[tilestream.Frame, error]) iter.Seq2[tilestream.Frame, error] {
	return func(yield func(tilestream.Frame, error) bool) {
		for frame, err := range frames {
			if ctx.Err() != nil || !yield(frame, err) {
				return
			}
		}
	}
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, func(file io.Writer) error {
		_, err := fmt.Fprintf(file, "%s\n", text)
		return err
	})
}

func loadPalette(path string) (color.Palette, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return tilestream.LoadPalette(io.Reader(file))
}
