# The operator's image: the static binary, and the boot files that machines load,
# which are programs of their own with their own licences (/boot/loader/LICENSES.txt).
#
# Everything is only copied, so that no program runs while the image is built.
# `make image` lays the files out in dist/image/ and builds this without Docker;
# docker build -f Dockerfile dist/image does the same.
FROM scratch
COPY boot /boot
COPY LICENSE /licenses/LICENSE
COPY rhizome /rhizome
USER 65532:65532
ENTRYPOINT ["/rhizome"]
CMD ["operator"]
