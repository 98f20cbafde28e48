package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	tilestream "github.com/tilestream/tilestream/client/go"
)

const refresh = 200 * time.Millisecond

// tally counts results.
type tally struct {
	session              *tilestream.Session
	began, last, shown   time.Time
	ok, dropped, invalid int
	keyFrames            int
	computed, skipped    int // block units
	width, height        int
	latencies            histogram
}

func newTally() *tally { return &tally{latencies: histogram{}} }

func (t *tally) begin(session *tilestream.Session) {
	t.session, t.began = session, time.Now()
	t.last = t.began
}

func (t *tally) add(result *tilestream.Result) {
	t.last = time.Now()
	switch result.Status {
	case tilestream.StatusDropped:
		t.dropped++
	case tilestream.StatusInvalid:
		t.invalid++
	default:
		t.ok++
		t.latencies.add(result.Latency)
		t.width, t.height = result.Mask.Width, result.Mask.Height
		if reuse := result.Reuse; reuse != nil {
			t.computed += reuse.UnitsComputed
			t.skipped += reuse.UnitsDropped
			if reuse.KeyFrame {
				t.keyFrames++
			}
		}
	}
}

func (t *tally) fps() float64 {
	if seconds := t.last.Sub(t.began).Seconds(); seconds > 0 {
		return float64(t.ok) / seconds
	}
	return 0
}

func (t *tally) dropRate() float64 { return float64(t.skipped) / float64(max(1, t.computed+t.skipped)) }

// inShort is the progress: rate, latency, what was reused.
func (t *tally) inShort() string {
	return fmt.Sprintf("%.1f frames/s  p50 %.0f ms  p99 %.0f ms  %.0f%% of blocks dropped",
		t.fps(), t.latencies.percentile(50), t.latencies.percentile(99), 100*t.dropRate())
}

// show writes the progress over the last one, now and then.
func (t *tally) show(out io.Writer) {
	if now := time.Now(); now.Sub(t.shown) > refresh {
		t.shown = now
		fmt.Fprintf(out, "\r%d frames  %s\x1b[K", t.ok+t.dropped+t.invalid, t.inShort())
	}
}

// String is the last line.
func (t *tally) String() string {
	counts := t.session.Counts()
	return fmt.Sprintf("%d of %d frames segmented, %d dropped, %d invalid, %d reconnects: %s",
		t.ok, counts.FramesSent, t.dropped, t.invalid, counts.Reconnects, t.inShort())
}

// summary is what goes into the JSON file, with the names of the Python client's.
func (t *tally) summary() map[string]any {
	summary := map[string]any{
		"frames_ok": t.ok, "frames_dropped": t.dropped, "frames_invalid": t.invalid,
		"fps":             math.Round(t.fps()*1000) / 1000,
		"latency_ms":      map[string]any{"p50": t.latencies.percentile(50), "p90": t.latencies.percentile(90), "p99": t.latencies.percentile(99)},
		"block_drop_rate": math.Round(t.dropRate()*10000) / 10000,
		"key_frames":      t.keyFrames,
		"width":           t.width, "height": t.height,
		"frames_sent": 0, "frames_unanswered": 0, "reconnects": 0, "model": "",
	}
	if t.session != nil {
		counts := t.session.Counts()
		summary["frames_sent"], summary["reconnects"] = counts.FramesSent, counts.Reconnects
		summary["frames_unanswered"] = counts.FramesSent - t.ok - t.dropped - t.invalid
		summary["model"] = t.session.Started().Model.Name
	}
	return summary
}

// histogram counts latencies in steps of one per cent, so its memory is bounded however long a stream runs.
type histogram map[int]int

const histogramStep = 0.00995 // log(1.01)

func (h histogram) add(latency time.Duration) {
	h[int(math.Round(math.Log(max(latency.Seconds(), 1e-6))/histogramStep))]++
}

// percentile is in milliseconds, right to half a per cent; 0 where there are none.
func (h histogram) percentile(percent float64) float64 {
	count := 0
	var steps []int
	for step, n := range h {
		steps, count = append(steps, step), count+n
	}
	slices.Sort(steps)
	rank := max(1, int(math.Ceil(percent/100*float64(count))))
	for _, step := range steps {
		if rank -= h[step]; rank <= 0 {
			return math.Round(math.Exp(float64(step)*histogramStep)*1e6) / 1e3
		}
	}
	return 0
}
