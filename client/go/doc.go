// Package tilestream streams camera frames to a tilestream server and gets a label mask for every one.
package tilestream
